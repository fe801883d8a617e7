// Places an order: three writes of three collections, all or nothing.
//
//   java -cp ... Unit URI ORDER ITEM     with org.mongodb:mongodb-driver-sync:5.7.1

import static com.mongodb.client.model.Filters.and;
import static com.mongodb.client.model.Filters.eq;
import static com.mongodb.client.model.Filters.gt;
import static com.mongodb.client.model.Updates.inc;

import com.mongodb.MongoCommandException;
import com.mongodb.client.MongoClient;
import com.mongodb.client.MongoClients;
import com.mongodb.client.MongoDatabase;
import com.mongodb.client.model.InsertOneOptions;
import com.mongodb.client.model.UpdateOptions;
import org.bson.Document;
import org.bson.types.ObjectId;

public class Unit {
    static final int NO_SUCH_UNIT = 251;
    static final int COMMITTED = 256;

    static void writeOrder(MongoDatabase shop, String unit, String order, String item) {
        Document begin = new Document("unit", unit).append("begin", true);
        shop.getCollection("orders").insertOne(
            new Document("_id", order).append("item", item),
            new InsertOneOptions().comment(begin.append("timeoutMS", 10000).toBsonDocument()));
        long taken = shop.getCollection("stock").updateOne(
            and(eq("_id", item), gt("left", 0)), inc("left", -1),
            new UpdateOptions().comment("holdfast: unit=" + unit)) // the text form
            .getMatchedCount();
        if (taken == 0) {
            throw new IllegalStateException("sold out"); // to the proxy this write was no error
        }
        shop.getCollection("ledger").insertOne(
            new Document("order", order),
            new InsertOneOptions().comment("holdfast: unit=" + unit + " last"));
    }

    // False: the unit is committed after all; only the answer of its last write was lost.
    static boolean rollBack(MongoClient client, String unit) {
        try {
            client.getDatabase("admin").runCommand(new Document("abortUnit", unit));
        } catch (MongoCommandException error) {
            if (error.getCode() != NO_SUCH_UNIT && error.getCode() != COMMITTED) {
                throw error;
            }
            return error.getCode() == NO_SUCH_UNIT; // an error has rolled it back already
        }
        return true;
    }

    static void placeOrder(MongoClient client, String order, String item) {
        String unit = "order-" + new ObjectId(); // a name is used once: each try has a new one
        try {
            writeOrder(client.getDatabase("shop"), unit, order, item);
        } catch (RuntimeException error) {
            if (rollBack(client, unit)) {
                throw error;
            }
        }
    }

    public static void main(String[] arguments) {
        try (MongoClient client = MongoClients.create(arguments[0])) {
            placeOrder(client, arguments[1], arguments[2]);
            System.out.println(arguments[1] + ": placed");
        } catch (RuntimeException error) {
            System.err.println(arguments[1] + ": not placed: " + error.getMessage());
            System.exit(1);
        }
    }
}
