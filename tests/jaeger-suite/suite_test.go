// Package suite runs the storage integration suite of Jaeger, unmodified, against a running Pharos: spans in over OTLP's gRPC,
// traces out over jaeger.storage.v2, as a Jaeger with remote storage does. `tests/it/jaeger_suite.rs` starts it.
package suite

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jaegertracing/jaeger/internal/storage/integration"
	storage "github.com/jaegertracing/jaeger/internal/storage/v2/grpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// tenant is a token that opens one tenant. Instead of wiping a store that has no call for it, every test gets a new tenant.
type tenant struct {
	tokens []string
	used   atomic.Int64
}

func (*tenant) RequireTransportSecurity() bool { return false }

func (of *tenant) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	used := int(of.used.Load())
	if used >= len(of.tokens) {
		return nil, fmt.Errorf("the suite cleans up more than %d times: make more tokens", len(of.tokens))
	}
	return map[string]string{"authorization": "Bearer " + of.tokens[used]}, nil
}

func connect(t *testing.T, variable string, of *tenant) *grpc.ClientConn {
	address := os.Getenv(variable)
	if address == "" {
		t.Fatalf("%s is not set: this suite is started by tests/it/jaeger_suite.rs", variable)
	}
	connection, err := grpc.NewClient(address,
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithPerRPCCredentials(of))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connection.Close() })
	return connection
}

func TestStorage(t *testing.T) {
	of := &tenant{tokens: strings.Fields(os.Getenv("PHAROS_TOKENS"))}
	reading, writing := connect(t, "PHAROS_READ", of), connect(t, "PHAROS_WRITE", of)
	suite := &integration.StorageIntegration{
		TraceReader: storage.NewTraceReader(reading),
		TraceWriter: storage.NewTraceWriter(writing),
		CleanUp:     func(*testing.T) { of.used.Add(1) },
	}
	suite.RunSpanStoreTests(t)
}
