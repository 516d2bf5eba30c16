//! A script as commands: blocks of lines, each begun by `clear`, `load` or `eval`.

use pharos_model::StepRange;

use super::expectation::Expectation;
use super::load::Load;
use super::scan::time_ms;

/// A block that was read, or why it could not be.
pub(super) struct Block {
    /// Line of the command, from 1.
    pub(super) line: usize,
    /// The command line as written.
    pub(super) text: String,
    pub(super) command: Result<Command, String>,
}

#[derive(Debug)]
pub(super) enum Command {
    Clear,
    Load(Load),
    Eval(Box<Eval>),
}

/// When a query is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// Unix milliseconds.
    Instant(i64),
    Range(StepRange),
}

#[derive(Debug)]
pub(super) struct Eval {
    pub(super) query: String,
    pub(super) when: When,
    pub(super) expectation: Expectation,
}

/// Splits a script into its blocks. Comments count as blank lines.
pub(super) fn blocks(text: &str) -> Vec<Block> {
    let lines: Vec<&str> =
        text.lines().map(str::trim).map(|line| if line.starts_with('#') { "" } else { line }).collect();
    let mut blocks = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        if lines[at].is_empty() {
            at += 1;
            continue;
        }
        let command = lines[at];
        let has_body = command != "clear";
        let body = lines[at + 1..].iter().take_while(|line| has_body && !line.is_empty()).count();
        let command = parse(command, &lines[at + 1..=at + body]);
        blocks.push(Block { line: at + 1, text: lines[at].to_owned(), command });
        at += 1 + body;
    }
    blocks
}

fn parse(line: &str, body: &[&str]) -> Result<Command, String> {
    let (word, rest) = split_word(line);
    match word {
        "clear" if rest.is_empty() => Ok(Command::Clear),
        "load" => Load::parse(rest, false, body).map(Command::Load),
        "load_with_nhcb" => Load::parse(rest, true, body).map(Command::Load),
        "eval" => eval(rest, Expectation::default(), body),
        "eval_fail" => eval(rest, Expectation::failure(), body),
        "eval_warn" => eval(rest, Expectation::warning(), body),
        "eval_info" => eval(rest, Expectation::info(), body),
        "eval_ordered" => eval(rest, Expectation::ordered(), body),
        _ => Err("unknown command: clear, load, load_with_nhcb and eval are known".to_owned()),
    }
}

/// `instant at <t> <query>` or `range from <a> to <b> step <s> <query>`.
fn eval(text: &str, mut expectation: Expectation, body: &[&str]) -> Result<Command, String> {
    let (kind, rest) = split_word(text);
    let (when, query) = match kind {
        "instant" => {
            let (at_ms, rest) = time_after("at", rest)?;
            (When::Instant(at_ms), rest)
        }
        "range" => {
            let (steps, rest) = steps(rest)?;
            (When::Range(steps), rest)
        }
        other => return Err(format!("eval {other:?}: instant and range are known")),
    };
    if query.is_empty() {
        return Err("a query is missing".to_owned());
    }
    for line in body {
        expectation.read_line(line).map_err(|error| format!("{line}: {error}"))?;
    }
    Ok(Command::Eval(Box::new(Eval { query: query.to_owned(), when, expectation })))
}

/// `from <a> to <b> step <s>`, and what follows.
pub(super) fn steps(text: &str) -> Result<(StepRange, &str), String> {
    let (start_ms, rest) = time_after("from", text)?;
    let (end_ms, rest) = time_after("to", rest)?;
    let (step_ms, rest) = time_after("step", rest)?;
    if step_ms <= 0 || end_ms < start_ms {
        return Err("a range needs a positive step and an end that is not before its start".to_owned());
    }
    Ok((StepRange { start_ms, end_ms, step_ms }, rest))
}

fn time_after<'a>(keyword: &str, text: &'a str) -> Result<(i64, &'a str), String> {
    let (word, rest) = split_word(text);
    if word != keyword {
        return Err(format!("{keyword:?} is expected, not {word:?}"));
    }
    let (time, rest) = split_word(rest);
    Ok((time_ms(time)?, rest))
}

/// The first word, and what follows it.
pub(super) fn split_word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (word, rest.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_end_at_blank_lines_and_comments() {
        let found = blocks(
            "load 1m\n  a 1\n  b 2\n\nclear\neval instant at 1m a\n  a 1\n# note\neval range from 0 to 1m step 10s b",
        );
        assert_eq!(found.iter().map(|block| block.line).collect::<Vec<_>>(), [1, 5, 6, 9]);
        assert!(matches!(&found[0].command, Ok(Command::Load(load)) if load.series.len() == 2));
        assert!(matches!(found[1].command, Ok(Command::Clear)));
        let Ok(Command::Eval(eval)) = &found[3].command else { panic!("an eval") };
        assert_eq!(eval.when, When::Range(StepRange { start_ms: 0, end_ms: 60_000, step_ms: 10_000 }));
        assert_eq!(eval.query, "b");
    }

    #[test]
    fn what_cannot_be_read_fails_its_own_block() {
        let found = blocks("hello\n\neval instant 1m x\n\neval range from 1 to 0 step 1 x\n\nload soon\n\nclear");
        let reasons: Vec<bool> = found.iter().map(|block| block.command.is_err()).collect();
        assert_eq!(reasons, [true, true, true, true, false]);
    }
}
