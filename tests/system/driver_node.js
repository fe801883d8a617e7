// A client of the retry test: the Node.js driver's ordinary transactions.
//
//   driver_node.js URI COLLECTION COUNT, with NODE_PATH where the `mongodb` package is
//
// The same as driver_libmongoc.c: "ack N" after each of COUNT transactions; exit code 0 if the
// application never saw an error.
"use strict";

const { MongoClient } = require("mongodb");

async function main() {
  const [uri, name, count] = process.argv.slice(2);
  const client = new MongoClient(uri, { serverSelectionTimeoutMS: 20000 });
  const collection = client.db("test").collection(name);
  for (let n = 0; n < Number(count); n++) {
    const session = client.startSession();
    await session.withTransaction(async () => {
      await collection.insertOne({ n, half: "first" }, { session });
      await collection.insertOne({ n, half: "second" }, { session });
      const update = { $inc: { n: 1 } };
      await collection.updateOne({ _id: "counter" }, update, { session, upsert: true });
    });
    await session.endSession();
    console.log(`ack ${n}`);
  }
  await client.close();
}

main().catch((error) => {
  console.log(`failed: ${error}`);
  process.exit(1);
});
