//! The layout of long queries: what exceeds a line is split at its operator or parentheses and indented.

use std::fmt::{self, Write};

use super::{AggregateHead, OperatorClause, SubquerySuffix};
use crate::ast::Expr;

/// Widest expression that stays on one line, indentation not counted.
const LINE_CHARS_MAX: usize = 100;

/// The expression as people read it best: on one line if it fits, else split into indented lines.
#[must_use]
pub fn pretty(expr: &Expr) -> String {
    let mut text = String::new();
    write_lines(&mut text, expr, 0);
    text
}

/// Writes `expr` with its first line indented, too.
fn write_lines(out: &mut String, expr: &Expr, level: usize) {
    match expr {
        // As upstream has it, a subquery on one line stands at its beginning.
        Expr::Subquery(node) if !fits_one_line(expr) => {
            write_lines(out, &node.expr, level);
            write_to(out, format_args!("{}", SubquerySuffix(node)));
        }
        Expr::Subquery(_) => write_to(out, format_args!("{expr}")),
        Expr::Binary(node) if !fits_one_line(expr) => {
            // The operands are indented more than the operator between them.
            write_lines(out, &node.lhs, level + 1);
            out.push('\n');
            indent(out, level);
            write_to(out, format_args!("{}\n", OperatorClause(node)));
            write_lines(out, &node.rhs, level + 1);
        }
        Expr::Unary(node) => {
            let mut operand = String::new();
            write_lines(&mut operand, &node.expr, level);
            indent(out, level);
            out.push_str(node.op.symbol());
            out.push_str(operand.trim_start());
        }
        _ => {
            indent(out, level);
            write_bracketed(out, expr, level);
        }
    }
}

/// What splits at its parentheses, if it splits.
fn write_bracketed(out: &mut String, expr: &Expr, level: usize) {
    match expr {
        Expr::Aggregate(node) if !fits_one_line(expr) => {
            write_to(out, format_args!("{}(\n", AggregateHead(node)));
            if let Some(param) = &node.param {
                write_lines(out, param, level + 1);
                out.push_str(",\n");
            }
            write_lines(out, &node.expr, level + 1);
            close(out, level);
        }
        Expr::Call(node) if !fits_one_line(expr) => {
            write_to(out, format_args!("{}(\n", node.function.name));
            for (index, arg) in node.args.iter().enumerate() {
                out.push_str(if index > 0 { ",\n" } else { "" });
                write_lines(out, arg, level + 1);
            }
            close(out, level);
        }
        Expr::Paren(node) if !fits_one_line(expr) => {
            out.push_str("(\n");
            write_lines(out, &node.expr, level + 1);
            close(out, level);
        }
        _ => write_to(out, format_args!("{expr}")),
    }
}

fn close(out: &mut String, level: usize) {
    out.push('\n');
    indent(out, level);
    out.push(')');
}

fn indent(out: &mut String, level: usize) {
    (0..level).for_each(|_| out.push_str("  "));
}

fn write_to(out: &mut String, args: fmt::Arguments<'_>) {
    let _ = out.write_fmt(args); // writing to a String cannot fail
}

/// Prints into a counter that gives up after one line, so that the cost of the question is bounded.
fn fits_one_line(expr: &Expr) -> bool {
    struct Room(usize);
    impl Write for Room {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0 = self.0.checked_sub(text.len()).ok_or(fmt::Error)?;
            Ok(())
        }
    }
    write!(Room(LINE_CHARS_MAX), "{expr}").is_ok()
}
