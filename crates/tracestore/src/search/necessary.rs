//! What must be in a block for a search to find something there: clauses, each a choice of hints.
//!
//! Invariant N1: if a span passes, each clause has a hint that is true of the span's block, and where a service is named, true
//! of a span of that service.

use std::borrow::Cow;

use pharos_model::{SearchPattern, SpanKind, StatusCode};
use pharos_storage::{Comparison, SpanConstant, SpanField, SpanValue};

use super::terms::TermSubject;
use super::test::{Subject, Test, ValueTest};

/// A clause with more hints is left out.
const HINTS_MAX: usize = 256;
const KINDS: [SpanKind; 6] = [
    SpanKind::Unspecified,
    SpanKind::Internal,
    SpanKind::Server,
    SpanKind::Client,
    SpanKind::Producer,
    SpanKind::Consumer,
];
const STATUSES: [StatusCode; 3] = [StatusCode::Unset, StatusCode::Ok, StatusCode::Error];

/// Something that words can tell of.
#[derive(Debug, Clone)]
pub(crate) enum Hint<'q> {
    Value {
        of: TermSubject<'q>,
        text: Cow<'q, str>,
    },
    Has(TermSubject<'q>),
    Matches {
        of: TermSubject<'q>,
        pattern: &'q SearchPattern,
    },
    Kind(SpanKind),
    Status(StatusCode),
    /// At least so long, nanoseconds.
    Lasts(u64),
}

/// One of these.
pub(crate) type Clause<'q> = Vec<Hint<'q>>;

/// What a test implies.
#[derive(Debug, Clone, Default)]
pub(crate) struct Necessary<'q> {
    /// All spans that pass are of this service.
    pub(crate) service: Option<Cow<'q, str>>,
    /// All spans that pass have this name.
    pub(crate) operation: Option<Cow<'q, str>>,
    pub(crate) clauses: Vec<Clause<'q>>,
}

impl<'q> Necessary<'q> {
    pub(crate) fn of(test: &Test<'q>) -> Self {
        let clauses = clauses_of(test);
        let only = |subject: TermSubject<'_>| {
            clauses.iter().find_map(|clause| match clause.as_slice() {
                [Hint::Value { of, text }] if *of == subject => Some(text.clone()),
                _ => None,
            })
        };
        let (service, operation) = (only(TermSubject::Service), only(TermSubject::Name));
        Self { service, operation, clauses }
    }
}

fn clauses_of<'q>(test: &Test<'q>) -> Vec<Clause<'q>> {
    match test {
        Test::All(tests) => tests.iter().flat_map(clauses_of).collect(),
        Test::Any(tests) => {
            let best = |test| clauses_of(test).into_iter().min_by_key(cost);
            let joined = tests.iter().map(best).collect::<Option<Vec<_>>>().map(|clauses| clauses.concat());
            joined.into_iter().filter(|clause| clause.len() <= HINTS_MAX).collect()
        }
        Test::Bound { test, .. } => clauses_of(test),
        Test::Kind(kind) => vec![vec![Hint::Kind(*kind)]],
        Test::Status(status) => vec![vec![Hint::Status(*status)]],
        Test::Not(test) => match &**test {
            Test::Status(status) => {
                vec![STATUSES.into_iter().filter(|other| other != status).map(Hint::Status).collect()]
            }
            _ => Vec::new(),
        },
        Test::Lasts { min_ns, .. } => vec![vec![Hint::Lasts(*min_ns)]],
        Test::Value { of, passes } => {
            value_clause(*of, *passes).into_iter().filter(|clause| clause.len() <= HINTS_MAX).collect()
        }
        Test::StartsIn(_) | Test::Whole(_) => Vec::new(),
    }
}

/// How little a clause excludes.
fn cost(clause: &Clause<'_>) -> usize {
    let of_hint = |hint: &Hint<'_>| match hint {
        Hint::Value { .. } => 1,
        Hint::Matches { .. } => 20,
        Hint::Has(_) | Hint::Kind(_) | Hint::Status(_) | Hint::Lasts(_) => 50,
    };
    clause.iter().map(of_hint).sum()
}

fn value_clause<'q>(of: Subject<'q>, passes: ValueTest<'q>) -> Option<Clause<'q>> {
    let subject = match of {
        Subject::Attribute { key, .. } => TermSubject::Attribute(key),
        Subject::Field(SpanField::Name) => TermSubject::Name,
        Subject::Field(SpanField::Service) => TermSubject::Service,
        Subject::Field(SpanField::EventName) => TermSubject::EventName,
        Subject::Field(SpanField::ScopeName) => TermSubject::ScopeName,
        Subject::Field(SpanField::ScopeVersion) => TermSubject::ScopeVersion,
        Subject::Field(SpanField::Kind) => {
            let kinds = KINDS.into_iter().filter(|kind| passes.holds(&SpanValue::of_kind(*kind)));
            return Some(kinds.map(Hint::Kind).collect());
        }
        Subject::Field(SpanField::Status) => {
            let statuses = STATUSES.into_iter().filter(|status| passes.holds(&SpanValue::of_status(*status)));
            return Some(statuses.map(Hint::Status).collect());
        }
        Subject::Field(SpanField::Duration) => return shortest(passes).map(|min_ns| vec![Hint::Lasts(min_ns)]),
        Subject::Field(_) => return None,
    };
    let texts = match passes {
        ValueTest::Shown(text) => Some(vec![Cow::Borrowed(text)]),
        ValueTest::Compares(Comparison::Eq, constant) | ValueTest::Compared(constant, Comparison::Eq) => {
            only_texts(std::slice::from_ref(constant))
        }
        ValueTest::Among(constants) => only_texts(constants),
        ValueTest::Matches(pattern) => return Some(vec![Hint::Matches { of: subject, pattern }]),
        ValueTest::Exists | ValueTest::Compares(..) | ValueTest::Compared(..) => None,
    };
    match (texts, subject) {
        (Some(texts), _) => Some(texts.into_iter().map(|text| Hint::Value { of: subject, text }).collect()),
        (None, TermSubject::Attribute(_)) => Some(vec![Hint::Has(subject)]),
        // Nearly every block has these.
        (None, _) => None,
    }
}

fn only_texts(constants: &[SpanConstant]) -> Option<Vec<Cow<'_, str>>> {
    constants.iter().map(|constant| constant.only_text().map(Cow::Owned)).collect()
}

/// The shortest duration that may pass.
fn shortest(passes: ValueTest<'_>) -> Option<u64> {
    match passes {
        ValueTest::Compares(Comparison::Eq | Comparison::Gt | Comparison::Gte, constant)
        | ValueTest::Compared(constant, Comparison::Eq | Comparison::Lt | Comparison::Lte) => match constant {
            SpanConstant::DurationNs(min_ns) | SpanConstant::Int(min_ns) => u64::try_from(*min_ns).ok(),
            _ => None,
        },
        _ => None,
    }
}
