//! The Jaeger query APIs: v1 and v3 over HTTP and gRPC.
