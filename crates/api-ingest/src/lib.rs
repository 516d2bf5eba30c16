//! The doors for writers: OTLP over gRPC and HTTP, Prometheus remote write.
