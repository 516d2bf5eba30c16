//! From a token's text to a grant, as if its signature were good.

use super::IssuerSettings;
use super::claims::ClaimRules;
use super::compact::{Compact, TOKEN_BYTES_MAX};
use crate::Grant;

/// What the token would bring; `None` if it is refused.
pub(crate) fn grant_of(token: &str, settings: &IssuerSettings, now_s: i64) -> Option<Grant> {
    if token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let token = Compact::parse(token).ok()?;
    let issuer = token.issuer().ok()?;
    if issuer != settings.issuer {
        return None;
    }
    let rules = ClaimRules::new(settings).expect("settings without faults");
    rules.grant(&token.read("its payload is no JSON object").ok()?, now_s).ok()
}
