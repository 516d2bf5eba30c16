//! Running a script: its blocks in order, on a store and an engine.

use std::sync::Arc;
use std::time::Duration;

use pharos_model::{StepRange, TenantId};
use pharos_storage::conformance::Claiming;
use pharos_storage::{Capabilities, MetricStore};

use super::command::{Command, Eval, When, blocks};
use super::expectation::Expectation;
use super::variants::{pinned, time_dependence};
use super::{ScriptFailure, ScriptReport, ScriptStore, compare};
use crate::engine::{Engine, EngineSettings, QueryError, QueryOptions, QueryResult, SampleValue, Value, VectorSample};
use crate::options::ParserOptions;

const MINUTE_MS: i64 = 60_000;

/// Runs scripts, each on stores of its own.
pub struct ScriptRunner<S> {
    stores: S,
    settings: EngineSettings,
    tenant: TenantId,
}

impl<S: ScriptStore> ScriptRunner<S> {
    /// A runner with the settings that scripts are written for: everything experimental on, names removed at the end,
    /// 10 000 samples at most.
    #[must_use]
    pub fn new(stores: S) -> Self {
        let settings = EngineSettings {
            samples_max: 10_000,
            timeout: Duration::from_secs(100),
            delayed_name_removal: true,
            use_start_timestamps: true,
            parser: ParserOptions::all(),
            ..EngineSettings::default()
        };
        Self { stores, settings, tenant: TenantId::default() }
    }

    /// Replaces the engine's settings.
    #[must_use]
    pub fn with_settings(mut self, settings: EngineSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Runs a script from its first line to its last, whatever fails.
    pub fn run(&mut self, script: &str) -> ScriptReport {
        let mut report = ScriptReport::default();
        let mut bench = self.bench();
        for block in blocks(script) {
            let is_eval = matches!(block.command, Ok(Command::Eval(_)));
            let outcome = match (block.command, &bench) {
                (Err(reason), _) => Err(reason),
                (Ok(Command::Clear), _) => {
                    bench = self.bench();
                    Ok(())
                }
                (Ok(_), Err(reason)) => Err(format!("there is no store: {reason}")),
                (Ok(Command::Load(load)), Ok(bench)) => load.append_to(bench.store.as_ref(), &bench.tenant),
                (Ok(Command::Eval(eval)), Ok(bench)) => bench.eval(&eval),
            };
            match outcome {
                Ok(()) => report.passed += usize::from(is_eval),
                Err(reason) => report.failures.push(ScriptFailure { line: block.line, command: block.text, reason }),
            }
        }
        report
    }

    fn bench(&mut self) -> Result<Bench, String> {
        let store = self.stores.fresh()?;
        let engine = Engine::new(Arc::clone(&store), self.settings.clone());
        let plain = Claiming::new(Arc::clone(&store), Capabilities::raw());
        let plain = Engine::new(Arc::new(plain), self.settings.clone());
        Ok(Bench { store, engine, plain, tenant: self.tenant.clone() })
    }
}

/// A store with its engine, from one `clear` to the next.
struct Bench {
    store: Arc<dyn MetricStore>,
    engine: Engine,
    /// The same where the store hands out samples only.
    plain: Engine,
    tenant: TenantId,
}

impl Bench {
    fn eval(&self, eval: &Eval) -> Result<(), String> {
        let expected = &eval.expectation;
        match eval.when {
            When::Range(steps) => {
                let found = self.range(&eval.query, steps)?;
                check(expected, found, steps, true).map(|_| ())
            }
            When::Instant(at_ms) => {
                self.eval_instant(&eval.query, at_ms, expected, true)?;
                if expected.failure.is_some() {
                    return Ok(());
                }
                let Some((query, times_ms)) = pinned(&eval.query, at_ms) else { return Ok(()) };
                times_ms.into_iter().try_for_each(|at_ms| {
                    self.eval_instant(&query, at_ms, expected, false)
                        .map_err(|reason| format!("as {query} at {at_ms} ms: {reason}"))
                })
            }
        }
    }

    /// Evaluates at one instant, and again as the middle step of a range query.
    fn eval_instant(&self, query: &str, at_ms: i64, expected: &Expectation, places: bool) -> Result<(), String> {
        let steps = StepRange::instant(at_ms);
        let found = self.both(|engine| engine.instant(&self.tenant, query, at_ms, &QueryOptions::default()))?;
        let Some(found) = check(expected, found, steps, places)? else { return Ok(()) };
        let scalar = match found.value {
            Value::Scalar { .. } => true,
            Value::Vector(_) => false,
            Value::Matrix(_) | Value::String { .. } => return Ok(()),
        };
        if expected.ordered || time_dependence(query).on_range {
            return Ok(());
        }
        let middle = self.middle_step(query, at_ms, scalar).map_err(|reason| format!("as a range query: {reason}"))?;
        compare::value(expected, &middle, steps)
            .map_err(|reason| format!("as the middle step of a range query: {reason}"))
    }

    fn middle_step(&self, query: &str, at_ms: i64, scalar: bool) -> Result<Value, String> {
        let steps = StepRange { start_ms: at_ms - MINUTE_MS, end_ms: at_ms + MINUTE_MS, step_ms: MINUTE_MS };
        let found = self.range(query, steps)?.map_err(|error| error.to_string())?;
        let Value::Matrix(series) = found.value else { return Err("the answer is no matrix".to_owned()) };
        compare::sorted(&series)?;
        let mut samples = Vec::new();
        for series in series {
            let float = series.floats.iter().find(|point| point.0 == at_ms).map(|point| SampleValue::Float(point.1));
            let histogram = || series.histograms.iter().find(|point| point.0 == at_ms);
            let value = float.or_else(|| histogram().map(|point| SampleValue::Histogram(Arc::clone(&point.1))));
            if let Some(value) = value {
                samples.push(VectorSample { labels: series.labels, timestamp_ms: at_ms, value });
            }
        }
        match &samples[..] {
            [VectorSample { value: SampleValue::Float(value), .. }] if scalar => {
                Ok(Value::Scalar { timestamp_ms: at_ms, value: *value })
            }
            _ if scalar => Err(format!("a scalar became {samples:?}")),
            _ => Ok(Value::Vector(samples)),
        }
    }

    fn range(&self, query: &str, steps: StepRange) -> Result<Result<QueryResult, QueryError>, String> {
        self.both(|engine| engine.range(&self.tenant, query, steps, &QueryOptions::default()))
    }

    /// Evaluates where the store computes and where it does not.
    fn both(
        &self,
        evaluate: impl Fn(&Engine) -> Result<QueryResult, QueryError>,
    ) -> Result<Result<QueryResult, QueryError>, String> {
        let found = evaluate(&self.engine);
        let (pushed, plain) = (told(&found), told(&evaluate(&self.plain)));
        if pushed == plain {
            Ok(found)
        } else {
            Err(format!("the store's answer is\n{pushed}\nand the engine's\n{plain}"))
        }
    }
}

/// Everything of an answer that a caller sees, but for what it cost: equal texts are equal bits, NaNs aside.
fn told(found: &Result<QueryResult, QueryError>) -> String {
    match found {
        Ok(found) => format!("{:?}\n{:?}", found.value, found.annotations),
        Err(error) => error.to_string(),
    }
}

/// Compares an answer with what is expected; hands it on, unless it is the expected failure.
fn check(
    expected: &Expectation,
    found: Result<QueryResult, QueryError>,
    steps: StepRange,
    places: bool,
) -> Result<Option<QueryResult>, String> {
    let found = match (found, &expected.failure) {
        (Err(error), None) => return Err(format!("the query failed: {error}")),
        (Ok(_), Some(_)) => return Err("the query should fail but it did not".to_owned()),
        (Err(error), Some(patterns)) => {
            let message = error.to_string();
            return match patterns.iter().find(|pattern| !pattern.is_met_by(&message)) {
                Some(pattern) => Err(format!("expected failure {pattern:?}\nbut got {message}")),
                None => Ok(None),
            };
        }
        (Ok(found), None) => found,
    };
    let annotations = &found.annotations;
    compare::notes(&expected.warnings, &annotations.warnings, "warning", places)?;
    compare::notes(&expected.infos, &annotations.infos, "info", places)?;
    compare::value(expected, &found.value, steps)?;
    Ok(Some(found))
}
