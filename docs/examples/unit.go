// Places an order: three writes of three collections, all or nothing.
//
//	go run unit.go URI ORDER ITEM
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

const (
	noSuchUnit = 251
	committed  = 256
)

func writeOrder(ctx context.Context, shop *mongo.Database, unit, order, item string) error {
	begin := bson.M{"unit": unit, "begin": true, "timeoutMS": 10000}
	_, err := shop.Collection("orders").InsertOne(ctx, bson.M{"_id": order, "item": item},
		options.InsertOne().SetComment(begin))
	if err != nil {
		return err
	}
	inStock := bson.M{"_id": item, "left": bson.M{"$gt": 0}}
	takeOne := bson.M{"$inc": bson.M{"left": -1}}
	taken, err := shop.Collection("stock").UpdateOne(ctx, inStock, takeOne,
		options.UpdateOne().SetComment(bson.M{"unit": unit}))
	if err != nil {
		return err
	}
	if taken.MatchedCount == 0 {
		return errors.New("sold out") // to the proxy this write was no error
	}
	_, err = shop.Collection("ledger").InsertOne(ctx, bson.M{"order": order},
		options.InsertOne().SetComment(bson.M{"unit": unit, "last": true}))
	return err
}

// rollBack returns nil if the unit is committed after all: only the answer of its last write was
// lost. Otherwise it returns why the order is not placed.
func rollBack(ctx context.Context, client *mongo.Client, unit string, reason error) error {
	err := client.Database("admin").RunCommand(ctx, bson.M{"abortUnit": unit}).Err()
	var refused mongo.CommandError
	switch {
	case err == nil:
		return reason
	case errors.As(err, &refused) && refused.Code == noSuchUnit:
		return reason // an error has rolled it back already
	case errors.As(err, &refused) && refused.Code == committed:
		return nil
	default:
		return err
	}
}

func placeOrder(ctx context.Context, client *mongo.Client, order, item string) error {
	unit := "order-" + bson.NewObjectID().Hex() // a name is used once: each try has a new one
	err := writeOrder(ctx, client.Database("shop"), unit, order, item)
	if err != nil {
		return rollBack(ctx, client, unit, err)
	}
	return nil
}

func run(uri, order, item string) error {
	client, err := mongo.Connect(options.Client().ApplyURI(uri))
	if err != nil {
		return err
	}
	ctx := context.Background()
	defer client.Disconnect(ctx)
	return placeOrder(ctx, client, order, item)
}

func main() {
	uri, order, item := os.Args[1], os.Args[2], os.Args[3]
	if err := run(uri, order, item); err != nil {
		fmt.Fprintf(os.Stderr, "%s: not placed: %v\n", order, err)
		os.Exit(1)
	}
	fmt.Printf("%s: placed\n", order)
}
