//! `parse_query`: a syntax tree as the JSON that user interfaces draw.
//!
//! Durations are whole milliseconds where they do not depend on the query; those that do (`step()`, `range()`)
//! are 0, as upstream has them before a query runs. Expressions keep their own form under `…Expr` beside that, which is
//! null for plain durations.

use pharos_promql::ast::{AtModifier, Binary, DurationExpr, EdgeMode, Expr, VectorSelector};
use pharos_promql::engine::go_f;
use pharos_promql::functions::Function;
use serde_json::{Value, json};

/// The tree of `expr`. Its depth is bounded by the parser.
pub(crate) fn tree_json(expr: &Expr) -> Value {
    match expr {
        Expr::Number(number) => json!({"type": "numberLiteral", "val": go_f(number.value)}),
        Expr::String(text) => json!({"type": "stringLiteral", "val": text.value}),
        Expr::Paren(paren) => json!({"type": "parenExpr", "expr": tree_json(&paren.expr)}),
        Expr::Unary(unary) => json!({"type": "unaryExpr", "op": unary.op.symbol(), "expr": tree_json(&unary.expr)}),
        Expr::VectorSelector(selector) => selector_json("vectorSelector", selector),
        Expr::MatrixSelector(matrix) => {
            let mut tree = selector_json("matrixSelector", &matrix.selector);
            add_duration(&mut tree, "range", Some(&matrix.range));
            tree
        }
        Expr::Subquery(subquery) => {
            let mut tree = json!({"type": "subquery", "expr": tree_json(&subquery.expr)});
            add_duration(&mut tree, "range", Some(&subquery.range));
            add_duration(&mut tree, "offset", subquery.offset.as_ref());
            add_duration(&mut tree, "step", subquery.step.as_ref());
            add_at(&mut tree, subquery.at);
            tree
        }
        Expr::Call(call) => json!({
            "type": "call",
            "func": function_json(call.function),
            "args": call.args.iter().map(tree_json).collect::<Vec<_>>(),
        }),
        Expr::Aggregate(aggregate) => json!({
            "type": "aggregation",
            "op": aggregate.op.name(),
            "expr": tree_json(&aggregate.expr),
            "param": aggregate.param.as_deref().map(tree_json),
            "grouping": aggregate.grouping.labels(),
            "without": aggregate.grouping.is_without(),
        }),
        Expr::Binary(binary) => binary_json(binary),
    }
}

fn function_json(function: &Function) -> Value {
    json!({
        "name": function.name,
        "argTypes": function.arg_types.iter().map(|kind| kind.api_name()).collect::<Vec<_>>(),
        "variadic": function.variadic,
        "returnType": function.return_type.api_name(),
    })
}

fn binary_json(binary: &Binary) -> Value {
    let matching = binary.matching.as_ref().map(|matching| {
        json!({
            "card": matching.cardinality.name(),
            "labels": matching.labels,
            "on": matching.on,
            "include": matching.include,
            "fillValues": {"lhs": matching.fill_left, "rhs": matching.fill_right},
        })
    });
    json!({
        "type": "binaryExpr",
        "op": binary.op.symbol(),
        "lhs": tree_json(&binary.lhs),
        "rhs": tree_json(&binary.rhs),
        "matching": matching,
        "bool": binary.return_bool,
    })
}

fn selector_json(kind: &str, selector: &VectorSelector) -> Value {
    let matcher = |matcher: &pharos_promql::ast::Matcher| json!({"name": matcher.name(), "value": matcher.value(), "type": matcher.op().as_str()});
    let mut tree = json!({
        "type": kind,
        "name": selector.name.as_deref().unwrap_or(""),
        "matchers": selector.matchers.iter().map(matcher).collect::<Vec<_>>(),
        "anchored": selector.edge == Some(EdgeMode::Anchored),
        "smoothed": selector.edge == Some(EdgeMode::Smoothed),
    });
    add_duration(&mut tree, "offset", selector.offset.as_ref());
    add_at(&mut tree, selector.at);
    tree
}

fn add_at(tree: &mut Value, at: Option<AtModifier>) {
    let (timestamp, edge) = match at {
        None => (None, None),
        Some(AtModifier::TimestampMs(at_ms)) => (Some(at_ms), None),
        Some(AtModifier::Start) => (None, Some("start")),
        Some(AtModifier::End) => (None, Some("end")),
    };
    tree["timestamp"] = json!(timestamp);
    tree["startOrEnd"] = json!(edge);
}

/// `key`, milliseconds, and under `keyExpr` the tree of anything but a plain duration.
fn add_duration(tree: &mut Value, key: &str, duration: Option<&DurationExpr>) {
    let literal_ms = duration.and_then(DurationExpr::literal_ms);
    let expression = duration.filter(|duration| !matches!(duration, DurationExpr::Literal(_)));
    tree[key] = json!(literal_ms.unwrap_or(0));
    tree[format!("{key}Expr")] = json!(expression.map(|duration| duration_json(duration, false)));
}

fn duration_json(duration: &DurationExpr, wrapped: bool) -> Value {
    let node = |op: &str, lhs: Option<&DurationExpr>, rhs: Option<&DurationExpr>| {
        let side = |side: Option<&DurationExpr>| side.map(|side| duration_json(side, false));
        json!({"type": "durationExpr", "op": op, "lhs": side(lhs), "rhs": side(rhs), "wrapped": wrapped})
    };
    match duration {
        DurationExpr::Literal(number) => {
            json!({"type": "numberLiteral", "val": go_f(number.value), "duration": number.is_duration})
        }
        DurationExpr::Step(_) => node("step", None, None),
        DurationExpr::Range(_) => node("range", None, None),
        DurationExpr::MinOf(lhs, rhs, _) => node("min_of", Some(lhs), Some(rhs)),
        DurationExpr::MaxOf(lhs, rhs, _) => node("max_of", Some(lhs), Some(rhs)),
        DurationExpr::Unary(op, operand, _) => node(op.symbol(), None, Some(operand)),
        DurationExpr::Binary(op, lhs, rhs, _) => node(op.symbol(), Some(lhs), Some(rhs)),
        DurationExpr::Paren(inner, _) => duration_json(inner, true),
    }
}

#[cfg(test)]
mod tests {
    use pharos_promql::{ParserOptions, parse};

    use super::*;

    fn check(query: &str, expected: &Value) {
        assert_eq!(&tree_json(&parse(query, ParserOptions::all()).unwrap()), expected, "{query}");
    }

    #[test]
    fn every_kind_of_node_has_its_shape() {
        let up = json!({
            "type": "vectorSelector", "name": "up", "offset": 0, "offsetExpr": null, "timestamp": null, "startOrEnd": null,
            "matchers": [{"name": "__name__", "value": "up", "type": "="}], "anchored": false, "smoothed": false,
        });
        check("up", &up);
        check("(-up)", &json!({"type": "parenExpr", "expr": {"type": "unaryExpr", "op": "-", "expr": up}}));
        check("\"a\"", &json!({"type": "stringLiteral", "val": "a"}));
        let param = json!({"type": "numberLiteral", "val": "3"});
        check(
            "topk without (a) (3, up)",
            &json!({"type": "aggregation", "op": "topk", "expr": up, "param": param, "grouping": ["a"], "without": true}),
        );
        let matching = json!({"card": "many-to-one", "labels": ["a"], "on": true, "include": ["b"], "fillValues": {"lhs": null, "rhs": null}});
        check(
            "up * on (a) group_left (b) up",
            &json!({"type": "binaryExpr", "op": "*", "lhs": up, "rhs": up, "matching": matching, "bool": false}),
        );
        let func = json!({"name": "time", "argTypes": [], "variadic": 0, "returnType": "scalar"});
        let call = json!({"type": "call", "func": func, "args": []});
        check(
            "time() > bool 3",
            &json!({"type": "binaryExpr", "op": ">", "lhs": call, "rhs": param, "matching": null, "bool": true}),
        );
    }

    #[test]
    fn durations_are_milliseconds_or_trees() {
        let matchers = json!([{"name": "a", "value": "b.*", "type": "=~"}]);
        check(
            "{a=~\"b.*\"}[5m] offset -1m @ 1.5",
            &json!({
                "type": "matrixSelector", "name": "", "range": 300_000, "rangeExpr": null, "offset": -60_000,
                "offsetExpr": null, "timestamp": 1_500,
                "startOrEnd": null, "matchers": matchers, "anchored": false, "smoothed": false,
            }),
        );
        let step = json!({"type": "durationExpr", "op": "step", "lhs": null, "rhs": null, "wrapped": false});
        let two = json!({"type": "numberLiteral", "val": "2", "duration": false});
        let product = json!({"type": "durationExpr", "op": "*", "lhs": two, "rhs": step, "wrapped": true});
        let number = json!({"type": "numberLiteral", "val": "1"});
        let vector = json!({"name": "vector", "argTypes": ["scalar"], "variadic": 0, "returnType": "vector"});
        check(
            "vector(1)[1h:(2 * step())] @ end()",
            &json!({
                "type": "subquery", "expr": {"type": "call", "func": vector, "args": [number]}, "range": 3_600_000,
                "rangeExpr": null, "offset": 0, "offsetExpr": null, "step": 0, "stepExpr": product, "timestamp": null, "startOrEnd": "end",
            }),
        );
    }
}
