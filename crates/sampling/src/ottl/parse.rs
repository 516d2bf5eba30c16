//! Text of a condition to a tree. Recursion is bounded by [`DEPTH_MAX`].

use std::borrow::Cow;

use pharos_base::HumanDuration;
use pharos_model::SearchPattern;

use super::value::{KINDS, Path, Value};
use super::{Compare, Condition, Operand};

/// Longest condition, bytes.
const TEXT_BYTES_MAX: usize = 16 << 10;
/// Parentheses and `not` within one another.
const DEPTH_MAX: usize = 32;

/// A condition on events, or else on spans.
pub(super) fn condition(text: &str, is_event: bool) -> Result<Condition, String> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(format!("is longer than {TEXT_BYTES_MAX} bytes"));
    }
    let mut parser = Parser { text, at: 0, is_event, depth: 0 };
    let condition = parser.any_of()?;
    parser.skip_spaces();
    if parser.rest().is_empty() { Ok(condition) } else { Err(parser.fault("expected and, or, or the end")) }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    is_event: bool,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn fault(&self, message: &str) -> String {
        let character = self.text.get(..self.at).map_or(0, |before| before.chars().count()) + 1;
        format!("{message}, at character {character}")
    }

    fn skip_spaces(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    /// Takes a symbol.
    fn takes(&mut self, symbol: &str) -> bool {
        self.skip_spaces();
        let found = self.rest().starts_with(symbol);
        if found {
            self.at += symbol.len();
        }
        found
    }

    fn expect(&mut self, symbol: &str) -> Result<(), String> {
        if self.takes(symbol) { Ok(()) } else { Err(self.fault(&format!("expected {symbol}"))) }
    }

    /// The word that comes next, such as `attributes` or `not`; dots join words.
    fn peek_word(&mut self) -> &'a str {
        self.skip_spaces();
        let rest = self.rest();
        let is_of_word = |character: char| character.is_ascii_alphanumeric() || character == '_' || character == '.';
        let end = rest.find(|character| !is_of_word(character)).unwrap_or(rest.len());
        rest.get(..end).unwrap_or("")
    }

    fn takes_word(&mut self, word: &str) -> bool {
        let found = self.peek_word() == word;
        if found {
            self.at += word.len();
        }
        found
    }

    fn any_of(&mut self) -> Result<Condition, String> {
        let mut all = vec![self.all_of()?];
        while self.takes_word("or") {
            all.push(self.all_of()?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Condition::Or(all) })
    }

    fn all_of(&mut self) -> Result<Condition, String> {
        let mut all = vec![self.one()?];
        while self.takes_word("and") {
            all.push(self.one()?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Condition::And(all) })
    }

    fn one(&mut self) -> Result<Condition, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.fault(&format!("nests deeper than {DEPTH_MAX}")));
        }
        let condition = self.one_within()?;
        self.depth -= 1;
        Ok(condition)
    }

    fn one_within(&mut self) -> Result<Condition, String> {
        if self.takes_word("not") {
            return Ok(Condition::Not(Box::new(self.one()?)));
        }
        // A parenthesis holds a condition, or a value that is compared.
        let (begun, depth) = (self.at, self.depth);
        if self.takes("(") {
            if let Ok(inner) = self.any_of()
                && self.takes(")")
            {
                return Ok(inner);
            }
            (self.at, self.depth) = (begun, depth);
        }
        match self.peek_word() {
            "true" | "false" if !self.is_compared() => {
                return Ok(Condition::Literal(
                    self.takes_word("true") || {
                        self.takes_word("false");
                        false
                    },
                ));
            }
            "IsMatch" => return self.is_match(),
            "IsRootSpan" => {
                self.takes_word("IsRootSpan");
                self.expect("(")?;
                self.expect(")")?;
                return Ok(Condition::IsRootSpan);
            }
            _ => {}
        }
        let left = self.operand()?;
        let op = self.comparison()?;
        let right = self.operand()?;
        Ok(Condition::Compare { left, op, right })
    }

    /// Whether the word that comes next is one side of a comparison.
    fn is_compared(&mut self) -> bool {
        let begun = self.at;
        self.at += self.peek_word().len();
        let is_compared = self.comparison().is_ok();
        self.at = begun;
        is_compared
    }

    fn comparison(&mut self) -> Result<Compare, String> {
        for (symbol, op) in [
            ("==", Compare::Equal),
            ("!=", Compare::NotEqual),
            ("<=", Compare::LessOrEqual),
            (">=", Compare::GreaterOrEqual),
            ("<", Compare::Less),
            (">", Compare::Greater),
        ] {
            if self.takes(symbol) {
                return Ok(op);
            }
        }
        Err(self.fault("expected ==, !=, <, <=, > or >="))
    }

    fn is_match(&mut self) -> Result<Condition, String> {
        self.takes_word("IsMatch");
        self.expect("(")?;
        let path = self.operand()?;
        self.expect(",")?;
        self.skip_spaces();
        let text = self.text_literal()?;
        let pattern = SearchPattern::new(text).map_err(|error| self.fault(&error.to_string()))?;
        self.expect(")")?;
        Ok(Condition::IsMatch { path, pattern })
    }

    fn operand(&mut self) -> Result<Operand, String> {
        let first = self.term()?;
        if !self.takes("-") {
            return Ok(first);
        }
        let second = self.term()?;
        Ok(Operand::Difference(Box::new(first), Box::new(second)))
    }

    fn term(&mut self) -> Result<Operand, String> {
        if self.takes("(") {
            self.depth += 1;
            if self.depth > DEPTH_MAX {
                return Err(self.fault(&format!("nests deeper than {DEPTH_MAX}")));
            }
            let inner = self.operand()?;
            self.depth -= 1;
            self.expect(")")?;
            return Ok(inner);
        }
        self.skip_spaces();
        let rest = self.rest();
        if rest.starts_with('"') {
            return Ok(Operand::Literal(Value::Text(Cow::Owned(self.text_literal()?))));
        }
        if rest.starts_with(|first: char| first.is_ascii_digit() || first == '-') {
            return self.number();
        }
        let word = self.peek_word();
        self.at += word.len();
        let literal = match word {
            "nil" => Some(Value::Nil),
            "true" | "false" => Some(Value::Bool(word == "true")),
            "STATUS_CODE_UNSET" => Some(Value::Int(0)),
            "STATUS_CODE_OK" => Some(Value::Int(1)),
            "STATUS_CODE_ERROR" => Some(Value::Int(2)),
            "Duration" => Some(self.duration()?),
            _ => KINDS.iter().position(|(name, _)| *name == word).map(|number| Value::Int(number as i128)),
        };
        match literal {
            Some(literal) => Ok(Operand::Literal(literal)),
            None => self.path(word).map(Operand::Path),
        }
    }

    fn number(&mut self) -> Result<Operand, String> {
        let rest = self.rest();
        let sign = usize::from(rest.starts_with('-'));
        let is_of_number = |character: char| character.is_ascii_digit() || character == '.';
        let end = rest[sign..].find(|character| !is_of_number(character)).map_or(rest.len(), |end| end + sign);
        let text = &rest[..end];
        let value = match (text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(number), _) => Value::Int(number.into()),
            (_, Ok(number)) if text.contains('.') => Value::Double(number),
            _ => return Err(self.fault("expected a number")),
        };
        self.at += end;
        Ok(Operand::Literal(value))
    }

    /// `("100ms")`: nanoseconds.
    fn duration(&mut self) -> Result<Value<'static>, String> {
        self.expect("(")?;
        self.skip_spaces();
        let text = self.text_literal()?;
        let duration: HumanDuration = text.parse().map_err(|_| self.fault(&format!("{text:?} is no duration")))?;
        self.expect(")")?;
        Ok(Value::Int(i128::from(duration.as_ms()) * 1_000_000))
    }

    fn text_literal(&mut self) -> Result<String, String> {
        let mut characters = self.rest().char_indices();
        if !matches!(characters.next(), Some((_, '"'))) {
            return Err(self.fault("expected a text in double quotes"));
        }
        let mut text = String::new();
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    self.at += at + 1;
                    return Ok(text);
                }
                '\\' => match characters.next() {
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 't')) => text.push('\t'),
                    Some((_, 'r')) => text.push('\r'),
                    Some((_, same @ ('"' | '\\'))) => text.push(same),
                    _ => return Err(self.fault("unknown escape in a text: use \\\", \\\\, \\n, \\t or \\r")),
                },
                _ => text.push(character),
            }
        }
        Err(self.fault("a text without an end"))
    }

    /// `["key"]`
    fn key(&mut self) -> Result<String, String> {
        self.expect("[")?;
        self.skip_spaces();
        let key = self.text_literal()?;
        self.expect("]")?;
        if self.takes("[") {
            return Err(self.fault("values within values are not supported"));
        }
        Ok(key)
    }

    fn path(&mut self, word: &str) -> Result<Path, String> {
        // Without a prefix a path is one of the context's own, with `span.` always the span's.
        let (is_event, name) = match (word.strip_prefix("span."), word.strip_prefix("spanevent.")) {
            (Some(name), _) => (false, name),
            (_, Some(name)) if self.is_event => (true, name),
            _ => (self.is_event, word),
        };
        let path = match (is_event, name) {
            (_, "resource.attributes") => Path::ResourceAttribute(self.key()?),
            (_, "instrumentation_scope.attributes" | "scope.attributes") => Path::ScopeAttribute(self.key()?),
            (_, "instrumentation_scope.name" | "scope.name") => Path::ScopeName,
            (_, "instrumentation_scope.version" | "scope.version") => Path::ScopeVersion,
            (true, "attributes") => Path::EventAttribute(self.key()?),
            (true, "name") => Path::EventName,
            (true, "time_unix_nano" | "time") => Path::EventTime,
            (false, "attributes") => Path::Attribute(self.key()?),
            (false, "name") => Path::Name,
            (false, "kind") => Path::Kind,
            (false, "kind.string") => Path::KindText,
            (false, "status.code" | "status") => Path::StatusCode,
            (false, "status.message") => Path::StatusMessage,
            (false, "start_time_unix_nano" | "start_time") => Path::Start,
            (false, "end_time_unix_nano" | "end_time") => Path::End,
            (false, "flags") => Path::Flags,
            (false, "trace_id.string") => Path::TraceId,
            (false, "span_id.string") => Path::SpanId,
            (false, "parent_span_id.string") => Path::ParentSpanId,
            (false, "trace_state") if self.takes("[") => {
                self.at -= 1;
                Path::TraceStateMember(self.key()?)
            }
            (false, "trace_state") => Path::TraceState,
            _ => {
                self.at -= word.len();
                let what = if word.is_empty() {
                    "expected a path or a literal".to_owned()
                } else {
                    format!("{word} is not supported")
                };
                return Err(self.fault(&what));
            }
        };
        Ok(path)
    }
}
