//! Filters as JSON, in the mapping of protobuf: `{"op":"eq","args":[{"attr":{"key":"a"}},{"scalar":{"value":"1"}}]}`.

use pharos_proto::jaeger::expression_v1::expression::Term;
use pharos_proto::jaeger::expression_v1::{
    AttributeReference, Call, Expression, FieldReference, List, NestedReference, Scalar,
};
use serde::Deserialize;

/// Reads a filter. How deep it may nest is the JSON parser's limit, 128.
///
/// # Errors
/// What is wrong with the JSON, in words.
pub(crate) fn call_of_json(text: &str) -> Result<Call, String> {
    serde_json::from_str::<CallJson>(text).map(Call::from).map_err(|error| format!("filter: {error}"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CallJson {
    #[serde(default)]
    op: String,
    #[serde(default)]
    args: Vec<Option<TermJson>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum TermJson {
    Attr(KeyJson),
    Field(NameJson),
    Nested(LevelJson),
    Scalar(ScalarJson),
    List(ListJson),
    Call(CallJson),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyJson {
    #[serde(default)]
    key: String,
    #[serde(default)]
    level: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NameJson {
    #[serde(default)]
    name: String,
    #[serde(default)]
    level: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LevelJson {
    #[serde(default)]
    level: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScalarJson {
    #[serde(default)]
    value: String,
    #[serde(default)]
    r#type: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListJson {
    #[serde(default)]
    values: Vec<String>,
    #[serde(default)]
    r#type: String,
}

impl From<CallJson> for Call {
    fn from(call: CallJson) -> Self {
        let args = call.args.into_iter().map(|term| Expression { term: term.map(Term::from) });
        Self { op: call.op, args: args.collect() }
    }
}

impl From<TermJson> for Term {
    fn from(term: TermJson) -> Self {
        match term {
            TermJson::Attr(KeyJson { key, level }) => Self::Attr(AttributeReference { key, level }),
            TermJson::Field(NameJson { name, level }) => Self::Field(FieldReference { name, level }),
            TermJson::Nested(LevelJson { level }) => Self::Nested(NestedReference { level }),
            TermJson::Scalar(ScalarJson { value, r#type }) => Self::Scalar(Scalar { value, r#type }),
            TermJson::List(ListJson { values, r#type }) => Self::List(List { values, r#type }),
            TermJson::Call(call) => Self::Call(call.into()),
        }
    }
}
