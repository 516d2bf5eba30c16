//! Quotas from outside.

use pharos_base::{ByteSize, SimClock};
use pharos_http::{Dialect, Refusal};
use serde_json::json;

use super::*;
use crate::{Grant, IdentitySource, Scope, TenantAccess};

struct Fixture {
    clock: Arc<SimClock>,
    quotas: Arc<Quotas>,
}

fn fixture(limits: serde_json::Value, tenants: serde_json::Value) -> Fixture {
    let clock = SimClock::at_ms(1_700_000_000_000);
    let limits = serde_json::from_value(limits).unwrap();
    let tenants: Vec<TenantLimits> = serde_json::from_value(tenants).unwrap();
    let quotas = Arc::new(Quotas::new(&limits, &tenants, Arc::clone(&clock) as Arc<dyn Clock>));
    Fixture { clock, quotas }
}

impl Fixture {
    fn quota(&self, token_limits: serde_json::Value, tenant: &str) -> Quota {
        let mut grant = Grant::new("agent", &Scope::ALL, TenantAccess::Any);
        grant.limits = serde_json::from_value(token_limits).unwrap();
        let principal = Principal::of(Arc::new(grant), IdentitySource::Token);
        self.quotas.of(&principal, &tenant.parse().unwrap())
    }
}

#[test]
fn tenants_have_accounts_of_their_own() {
    let fixture = fixture(
        json!({"samples_per_second": 100, "burst": "1s"}),
        json!([{"tenant": "large", "limits": {"samples_per_second": 1000}}]),
    );
    let (small, other, large) =
        (fixture.quota(json!({}), "small"), fixture.quota(json!({}), "other"), fixture.quota(json!({}), "large"));
    for quota in [&small, &large] {
        quota.take(Unit::Samples, 500);
    }
    let over = small.check(Unit::Samples).unwrap_err();
    assert_eq!((over.limit, over.value, over.retry_after), ("samples_per_second", 100, Duration::from_secs(4)));
    assert!(over.to_string().contains("tenant small") && over.to_string().contains("pharos.yaml"), "{over}");
    assert!(other.check(Unit::Samples).is_ok() && large.check(Unit::Samples).is_ok());
    assert!(small.check(Unit::Spans).is_ok(), "spans have a rate of their own");
    fixture.clock.advance_ms(4_001);
    assert!(fixture.quota(json!({}), "small").check(Unit::Samples).is_ok());
}

#[test]
fn a_token_and_its_tenant_both_count() {
    let fixture = fixture(json!({"requests_in_flight": 2}), json!([]));
    let limited = fixture.quota(json!({"requests_in_flight": 1}), "7");
    let first = limited.begin().unwrap();
    let over = limited.begin().unwrap_err();
    assert!(matches!(&over.whose, Whose::Credential("token", name) if &**name == "agent"), "{over:?}");
    let second = fixture.quota(json!({}), "7").begin().unwrap();
    assert!(matches!(fixture.quota(json!({}), "7").begin().unwrap_err().whose, Whose::Tenant(_)));
    assert!(fixture.quota(json!({}), "8").begin().is_ok());
    drop((first, second));
    assert!(limited.begin().is_ok(), "places are given back, those of a refused request, too");
}

#[test]
fn limits_of_size_are_the_strictest() {
    let fixture = fixture(json!({"body_max": "30KiB"}), json!([{"tenant": "dev", "limits": {"body_max": "10KiB"}}]));
    assert_eq!(fixture.quota(json!({}), "0").limits().body_max, Some(ByteSize(30 << 10)));
    assert_eq!(fixture.quota(json!({"body_max": "20KiB"}), "0").limits().body_max, Some(ByteSize(20 << 10)));
    assert_eq!(fixture.quota(json!({"body_max": "20KiB"}), "dev").limits().body_max, Some(ByteSize(10 << 10)));
}

#[test]
fn lowered_limits_meet_requests_under_way() {
    let fixture = fixture(json!({"requests_in_flight": 5}), json!([]));
    let under_way: Vec<_> = (0..5).map(|_| fixture.quota(json!({}), "0").begin().unwrap()).collect();
    let lower = serde_json::from_value(json!({"requests_in_flight": 1})).unwrap();
    fixture.quotas.reload(&lower, &[]);
    assert_eq!(fixture.quota(json!({}), "0").begin().unwrap_err().value, 1);
    drop(under_way);
    assert!(fixture.quota(json!({}), "0").begin().is_ok());
}

#[test]
fn who_has_no_limits_has_no_account() {
    let fixture = fixture(json!({}), json!([]));
    let quota = fixture.quota(json!({}), "0");
    quota.take(Unit::Bytes, u64::MAX);
    assert!(quota.begin().is_ok() && quota.check(Unit::Bytes).is_ok());
    assert!(fixture.quotas.accounts.read().is_empty(), "L1");
}

#[test]
fn every_dialect_says_when_to_come_back() {
    let over = OverLimit {
        limit: "spans_per_second",
        value: 7,
        whose: Whose::Tenant(TenantId::default()),
        retry_after: Duration::from_millis(1_200),
    };
    let refusal = Refusal::from(over);
    for dialect in [Dialect::Plain, Dialect::OtlpJson, Dialect::OtlpProtobuf, Dialect::Prometheus] {
        let answer = refusal.render(dialect);
        assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (429, &"2".parse().unwrap()));
    }
    let answer = refusal.render(Dialect::Grpc);
    assert_eq!(answer.headers()["grpc-status"], "8");
    assert!(answer.headers().contains_key("grpc-status-details-bin"), "RetryInfo, without which clients drop it");
}
