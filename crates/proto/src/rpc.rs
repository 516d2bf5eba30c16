//! Errors as `google.rpc.Status`, with the details that are in use.

/// Type URL prefix of messages packed into an [`Any`].
pub const TYPE_URL_PREFIX: &str = "type.googleapis.com/";

/// The body of an OTLP/HTTP error.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Status {
    /// A gRPC status code.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// In words.
    #[prost(string, tag = "2")]
    pub message: String,
    /// Packed details.
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<Any>,
}

/// `google.protobuf.Any`: a message and its type.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Any {
    /// [`TYPE_URL_PREFIX`] and the message's full name.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// The message, encoded.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// Why a call failed, in a word that programs can compare.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ErrorInfo {
    /// In capitals.
    #[prost(string, tag = "1")]
    pub reason: String,
    /// Who named the reason.
    #[prost(string, tag = "2")]
    pub domain: String,
    /// More about it.
    #[prost(btree_map = "string, string", tag = "3")]
    pub metadata: std::collections::BTreeMap<String, String>,
}

/// When to try again; makes `RESOURCE_EXHAUSTED` and `UNAVAILABLE` retryable for OTLP clients.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct RetryInfo {
    /// Wait at least this long.
    #[prost(message, optional, tag = "1")]
    pub retry_delay: Option<Duration>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct Duration {
    /// Whole seconds.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// Nanoseconds beyond them, 0 to 999,999,999.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

/// What is wrong with a request.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct BadRequest {
    /// Field by field.
    #[prost(message, repeated, tag = "1")]
    pub field_violations: Vec<FieldViolation>,
}

/// What is wrong with one field.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct FieldViolation {
    /// Path of the field.
    #[prost(string, tag = "1")]
    pub field: String,
    /// Why it is wrong.
    #[prost(string, tag = "2")]
    pub description: String,
}

impl Any {
    /// Packs `message`, whose full name is `name`.
    #[must_use]
    pub fn pack(name: &str, message: &impl prost::Message) -> Self {
        Self { type_url: format!("{TYPE_URL_PREFIX}{name}"), value: message.encode_to_vec() }
    }
}

impl ErrorInfo {
    /// The message's full name.
    pub const NAME: &'static str = "google.rpc.ErrorInfo";
}

impl RetryInfo {
    /// The message's full name.
    pub const NAME: &'static str = "google.rpc.RetryInfo";

    /// "Wait for `delay`".
    #[must_use]
    pub fn after(delay: std::time::Duration) -> Self {
        let seconds = i64::try_from(delay.as_secs()).unwrap_or(i64::MAX);
        Self { retry_delay: Some(Duration { seconds, nanos: delay.subsec_nanos().cast_signed() }) }
    }
}

impl BadRequest {
    /// The message's full name.
    pub const NAME: &'static str = "google.rpc.BadRequest";
}
