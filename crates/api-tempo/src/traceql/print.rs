//! Queries as text again: what is printed parses to the same tree.

use std::fmt::{self, Display, Formatter, Write};

use super::ast::{Expr, Field, Literal, Query};
use super::lexer::{is_attribute_char, is_word_start};

impl Display for Query {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{{ {} }}", self.filter)?;
        for (index, field) in self.selected.iter().enumerate() {
            write!(f, "{}{field}", if index == 0 { " | select(" } else { ", " })?;
        }
        if self.selected.is_empty() { Ok(()) } else { f.write_str(")") }
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::And(parts) => join(f, parts, " && "),
            Self::Or(parts) => join(f, parts, " || "),
            Self::Not(part) => write!(f, "!({part})"),
            Self::Compare { field, operator, literal } => write!(f, "{field} {} {literal}", operator.sign()),
            Self::Holds(field) => write!(f, "{field}"),
            Self::Always(truth) => write!(f, "{truth}"),
        }
    }
}

fn join(f: &mut Formatter<'_>, parts: &[Expr], sign: &str) -> fmt::Result {
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            f.write_str(sign)?;
        }
        match part {
            Expr::And(_) | Expr::Or(_) => write!(f, "({part})")?,
            _ => write!(f, "{part}")?,
        }
    }
    Ok(())
}

impl Display for Field {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (scope, key) = match self {
            Self::Intrinsic(intrinsic) => return f.write_str(intrinsic.name()),
            Self::Attribute { scope, key } => (scope, key),
        };
        write!(f, "{}.", scope.map_or("", super::Scope::word))?;
        let is_plain = key.chars().next().is_some_and(is_word_start)
            && key.chars().all(|c| is_attribute_char(c) && c != '"' && c != '\\');
        if is_plain {
            return f.write_str(key);
        }
        f.write_char('"')?;
        for c in key.chars() {
            if matches!(c, '"' | '\\') {
                f.write_char('\\')?;
            }
            f.write_char(c)?;
        }
        f.write_char('"')
    }
}

impl Display for Literal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) | Self::Pattern { text, .. } => quote(f, text),
            Self::Int(number) => write!(f, "{number}"),
            Self::Float(number) => write!(f, "{number:?}"),
            Self::DurationNs(ns) => write!(f, "{ns}ns"),
            word => f.write_str(word.word().unwrap_or_default()),
        }
    }
}

fn quote(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            '\n' => f.write_str("\\n")?,
            '\t' => f.write_str("\\t")?,
            '\r' => f.write_str("\\r")?,
            c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}
