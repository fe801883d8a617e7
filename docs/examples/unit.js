// Places an order: three writes of three collections, all or nothing.
//
//   node unit.js URI ORDER ITEM
"use strict";

const { MongoClient, ObjectId } = require("mongodb");

const NO_SUCH_UNIT = 251;
const COMMITTED = 256;

async function writeOrder(shop, unit, order, item) {
  const begin = { unit, begin: true, timeoutMS: 10000 };
  await shop.collection("orders").insertOne({ _id: order, item }, { comment: begin });
  const inStock = { _id: item, left: { $gt: 0 } };
  const takeOne = { $inc: { left: -1 } };
  const options = { comment: { unit } };
  const taken = await shop.collection("stock").updateOne(inStock, takeOne, options);
  if (taken.matchedCount === 0) {
    throw new Error("sold out"); // to the proxy this write was no error
  }
  await shop.collection("ledger").insertOne({ order }, { comment: { unit, last: true } });
}

// False: the unit is committed after all; only the answer of its last write was lost.
async function rollBack(client, unit) {
  try {
    await client.db("admin").command({ abortUnit: unit });
  } catch (error) {
    if (error.code !== NO_SUCH_UNIT && error.code !== COMMITTED) {
      throw error;
    }
    return error.code === NO_SUCH_UNIT; // an error has rolled it back already
  }
  return true;
}

async function placeOrder(client, order, item) {
  const unit = `order-${new ObjectId()}`; // a name is used once: each try has a new one
  try {
    await writeOrder(client.db("shop"), unit, order, item);
  } catch (error) {
    if (await rollBack(client, unit)) {
      throw error;
    }
  }
}

async function main() {
  const [uri, order, item] = process.argv.slice(2);
  const client = new MongoClient(uri);
  try {
    await placeOrder(client, order, item);
    console.log(`${order}: placed`);
  } catch (error) {
    console.error(`${order}: not placed: ${error.message}`);
    process.exitCode = 1;
  } finally {
    await client.close();
  }
}

main();
