// Command example sends traces and metrics to Pharos with the OpenTelemetry SDK for Go.
//
//	example                          a small shop: twenty orders as traces and metrics
//	example -emit-reference FILE     everything the SDK can express, once; FILE says what was sent
//
// README.md in this folder says how to run it and what will be seen.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
)

// exportTimeout bounds the last flush, so that a dead backend cannot hold the program.
const exportTimeout = 20 * time.Second

func main() {
	orders := flag.Int("orders", 20, "orders to place before leaving")
	reference := flag.String("emit-reference", "", "send the reference workload and write what was sent to this file")
	flag.Parse()

	// The SDK reports failed exports here: a program that must not lose telemetry listens.
	var lost atomic.Bool
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		lost.Store(true)
		fmt.Fprintln(os.Stderr, "telemetry:", err)
	}))

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if *reference != "" {
		err = runConformance(ctx, *reference)
	} else {
		err = runShop(ctx, *orders)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "example:", err)
	}
	if err != nil || lost.Load() {
		os.Exit(1)
	}
}
