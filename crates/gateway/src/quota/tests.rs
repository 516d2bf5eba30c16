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
        let grant = Grant::new("agent", &Scope::ALL, TenantAccess::Any);
        self.quota_of(grant, IdentitySource::Token, token_limits, tenant)
    }

    fn quota_of(&self, grant: Grant, source: IdentitySource, limits: serde_json::Value, tenant: &str) -> Quota {
        self.quotas.of(&principal(grant, source, limits), &tenant.parse().unwrap())
    }
}

fn principal(grant: Grant, source: IdentitySource, limits: serde_json::Value) -> Principal {
    Principal::of(Arc::new(Grant { limits: serde_json::from_value(limits).unwrap(), ..grant }), source)
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
    assert!(
        matches!(&over.whose, Whose::Credential(Credential { kind: "token", name, .. }) if &**name == "agent"),
        "{over:?}"
    );
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

/// A login with a token is no second token: it has the same rate, and the same active series.
#[test]
fn a_session_is_the_token_that_opened_it() {
    let fixture = fixture(json!({"burst": "1s"}), json!([]));
    let limits = json!({"samples_per_second": 10, "series_active": 1});
    for (authority, source) in [("", IdentitySource::Token), ("https://issuer.example.com", IdentitySource::Jwt)] {
        let grant = Grant { authority: authority.into(), ..Grant::new("agent", &Scope::ALL, TenantAccess::Any) };
        let quota = |source| fixture.quota_of(grant.clone(), source, limits.clone(), "7");
        let (token, session) = (quota(source), quota(IdentitySource::Session));
        assert!(token.check(Unit::Samples).is_ok());
        token.take(Unit::Samples, 100);
        let over = session.check(Unit::Samples).unwrap_err();
        assert!(over.to_string().contains(source.as_str()), "{over}");
        assert!(token.series().unwrap().admits(&[1]));
        assert!(!session.series().unwrap().admits(&[2]));
    }
}

/// Names are unique only among those of one authority, and those of one tenant are not another's.
#[test]
fn who_is_called_alike_elsewhere_has_an_account_of_its_own() {
    let fixture = fixture(json!({"burst": "1s"}), json!([]));
    let limits = |rate: u64| json!({"samples_per_second": rate});
    let grant = |authority: &str, tenants: &str| Grant {
        authority: authority.into(),
        ..Grant::new("agent", &Scope::ALL, tenants.parse().unwrap())
    };
    let owners = [
        (grant("https://a.example.com", "7"), IdentitySource::Jwt, 10),
        (grant("https://b.example.com", "7"), IdentitySource::Jwt, 20),
        (grant("https://a.example.com", "8"), IdentitySource::Jwt, 30),
        (grant("0 x-user", "7"), IdentitySource::Proxy, 40),
        (grant("1 x-user", "7"), IdentitySource::Proxy, 50),
        (grant("Dns agent", "7"), IdentitySource::Certificate, 60),
        (grant("", "7"), IdentitySource::Token, 70),
    ];
    for (at, (grant, source, rate)) in owners.iter().enumerate() {
        let quota = fixture.quota_of(grant.clone(), *source, limits(*rate), "7");
        assert!(quota.check(Unit::Samples).is_ok(), "{at}: what others have taken");
        quota.take(Unit::Samples, 1_000_000);
    }
    for (grant, source, rate) in owners {
        let over = fixture.quota_of(grant, source, limits(rate), "7").check(Unit::Samples).unwrap_err();
        assert_eq!(over.value, rate, "its own limit");
    }
}

#[test]
fn queries_are_counted_for_the_tenant_by_its_limits_and_for_the_credential_by_its_own() {
    let fixture = fixture(json!({"queries_in_flight": 9, "query_series_max": 5}), json!([]));
    let of = |name: &str, source, limits| {
        let grant = Grant::new(name, &Scope::ALL, TenantAccess::Any);
        fixture.quotas.of_queries(&principal(grant, source, limits), &TenantId::default())
    };
    let dashboards = of("dashboards", IdentitySource::Token, json!({}));
    assert_eq!((dashboards.in_flight, dashboards.own), (Some(9), None));
    let one = || json!({"queries_in_flight": 1, "query_series_max": 7});
    let adhoc = of("adhoc", IdentitySource::Token, one());
    let own = adhoc.own.unwrap();
    assert_eq!((adhoc.in_flight, own.held_max, own.waiting_max), (Some(9), Some(1), None));
    assert_eq!(adhoc.series_max, Some(5), "the stricter of sizes");
    assert_eq!(of("adhoc", IdentitySource::Session, one()).own, Some(own));
    assert_ne!(of("other", IdentitySource::Token, one()).own.unwrap().whose, own.whose);
    assert_eq!(of("adhoc", IdentitySource::Token, json!({"query_series_max": 1})).own, None);
}

/// One that is made while the settings change has those of after the change, not of before.
#[test]
fn no_account_keeps_limits_of_before_a_reload() {
    let fixture = fixture(json!({"requests_in_flight": 1}), json!([]));
    for round in 2..500_u32 {
        let tenant = format!("t{round}");
        let both = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                both.wait();
                fixture.quota(json!({}), &tenant)
            });
            both.wait();
            fixture.quotas.reload(&serde_json::from_value(json!({"requests_in_flight": round})).unwrap(), &[]);
        });
        let accounts = fixture.quotas.accounts.read();
        let account = &accounts[&Whose::Tenant(tenant.parse().unwrap())];
        assert_eq!(account.limits().requests_in_flight, Some(round));
    }
}

/// Who owes for hours is not let off by staying away, and who wrote series has them while they are active.
#[test]
fn accounts_are_forgotten_when_nothing_is_owed_and_no_series_is_active() {
    let fixture = fixture(json!({"samples_per_second": 100, "burst": "1s"}), json!([]));
    fixture.quota(json!({}), "debtor").take(Unit::Samples, 1_000_000);
    let limited = || fixture.quota(json!({"series_active": 1}), "7");
    assert!(limited().series().unwrap().admits(&[1]));
    let idle = fixture.quota(json!({}), "idle");
    assert!(idle.check(Unit::Samples).is_ok());
    drop(idle);
    fixture.clock.advance_ms(11 * 60_000);
    let known = |name: &str| fixture.quotas.accounts.read().contains_key(&Whose::Tenant(name.parse().unwrap()));
    for at in 0..5_000 {
        drop(fixture.quota(json!({}), &format!("t{at}")));
    }
    assert!(known("debtor") && !known("idle"));
    let over = fixture.quota(json!({}), "debtor").check(Unit::Samples).unwrap_err();
    assert_eq!(over.limit, "samples_per_second", "it owes 10,000 seconds");
    assert!(!limited().series().unwrap().admits(&[2]), "the first is active for half an hour at least");
}

/// The way out that a refusal names is one.
#[test]
fn a_raised_rate_lets_the_debtor_in() {
    let fixture = fixture(json!({"samples_per_second": 1, "burst": "1s"}), json!([]));
    fixture.quota(json!({}), "0").take(Unit::Samples, 1_000_000);
    let raised = serde_json::from_value(json!({"samples_per_second": 1_000_000, "burst": "1s"})).unwrap();
    fixture.quotas.reload(&raised, &[]);
    fixture.clock.advance_ms(1);
    assert!(fixture.quota(json!({}), "0").check(Unit::Samples).is_ok());
    let own = |rate: u64| fixture.quota(json!({"spans_per_second": rate}), "0");
    own(1).take(Unit::Spans, 1_000);
    assert!(own(1).check(Unit::Spans).is_err() && own(1_001).check(Unit::Spans).is_ok());
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
