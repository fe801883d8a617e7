// A client of the retry test: the Node.js driver's ordinary transactions or plain writes.
//
//   driver_node.js URI COLLECTION COUNT transactions|plain, with NODE_PATH where the `mongodb`
//   package is
//
// The same as driver_libmongoc.c: "ack N" after each of COUNT rounds; exit code 0 if the application
// never saw an error.
"use strict";

const { MongoClient } = require("mongodb");

async function round(collection, n, options) {
  await collection.insertOne({ n, half: "first" }, options);
  await collection.insertOne({ n, half: "second" }, options);
  const update = { $inc: { n: 1 } };
  await collection.updateOne({ _id: "counter" }, update, { ...options, upsert: true });
}

async function main() {
  const [uri, name, count, mode] = process.argv.slice(2);
  const client = new MongoClient(uri, { serverSelectionTimeoutMS: 20000 });
  const collection = client.db("test").collection(name);
  for (let n = 0; n < Number(count); n++) {
    if (mode === "plain") {
      await round(collection, n, {});
    } else {
      const session = client.startSession();
      await session.withTransaction(() => round(collection, n, { session }));
      await session.endSession();
    }
    console.log(`ack ${n}`);
  }
  await client.close();
}

main().catch((error) => {
  console.log(`failed: ${error}`);
  process.exit(1);
});
