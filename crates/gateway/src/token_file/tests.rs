use std::os::unix::fs::PermissionsExt;

use super::*;

const NOW_S: i64 = 1_700_000_000;

fn new_token(name: &str) -> NewToken {
    NewToken::new(name, &[Scope::MetricsRead], TenantAccess::Any, NOW_S)
}

fn file() -> (tempfile::TempDir, TokenFile) {
    let folder = tempfile::tempdir().unwrap();
    let file = TokenFile::at(folder.path().join("tokens.json"));
    (folder, file)
}

fn version(file: &TokenFile) -> u64 {
    let text = fs::read_to_string(file.path()).unwrap();
    serde_json::from_str::<serde_json::Value>(&text).unwrap()["version"].as_u64().unwrap()
}

#[test]
fn the_file_holds_no_secret_and_only_its_owner_reads_it() {
    let (_folder, file) = file();
    let (secret, entry) = file.add(new_token("ci")).unwrap();
    let text = fs::read_to_string(file.path()).unwrap();
    assert!(!text.contains(&secret.reveal()[PREFIX.len()..]));
    assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(file.read().unwrap(), std::slice::from_ref(&entry));
    assert_eq!(hash(secret.reveal()), entry.secrets[0].sha256);
}

#[test]
fn names_are_unique_and_tokens_can_be_revoked_by_name_or_id() {
    let (_folder, file) = file();
    let (_, first) = file.add(new_token("a")).unwrap();
    assert!(matches!(file.add(new_token("a")), Err(TokenFileError::NameTaken { .. })));
    let (_, second) = file.add(new_token("b")).unwrap();
    assert_eq!(file.remove("b").unwrap(), Revoked::Token(Box::new(second)));
    assert_eq!(file.remove(&first.secrets[0].id).unwrap(), Revoked::Token(Box::new(first)));
    assert!(matches!(file.remove("a"), Err(TokenFileError::Unknown { .. })));
}

#[test]
fn a_rotated_token_keeps_its_name_and_its_secrets_end_one_by_one() {
    let (_folder, file) = file();
    let (_, made) = file.add(new_token("agent")).unwrap();
    let (_, once) = file.rotate("agent", NOW_S + 10, 3_600).unwrap();
    assert_eq!(once.secrets.iter().map(|secret| secret.expires_at).collect::<Vec<_>>(), [Some(NOW_S + 3_610), None]);
    assert_eq!(once.secrets[0].sha256, made.secrets[0].sha256);
    // The first keeps its earlier end; both are gone once they have ended.
    let (_, twice) = file.rotate("agent", NOW_S + 20, 86_400).unwrap();
    let ends: Vec<_> = twice.secrets.iter().map(|secret| secret.expires_at).collect();
    assert_eq!(ends, [Some(NOW_S + 3_610), Some(NOW_S + 86_420), None]);
    let (_, later) = file.rotate("agent", NOW_S + 200_000, 0).unwrap();
    assert_eq!(later.secrets.len(), 1, "without grace only the new one works");
    assert_eq!(file.read().unwrap(), [later]);
    assert!(matches!(file.rotate("other", NOW_S, 0), Err(TokenFileError::Unknown { .. })));
}

#[test]
fn one_secret_of_several_can_be_revoked_by_its_id() {
    let (_folder, file) = file();
    file.add(new_token("agent")).unwrap();
    let (_, token) = file.rotate("agent", NOW_S, 60).unwrap();
    let old = token.secrets[0].id.clone();
    assert_eq!(file.remove(&old).unwrap(), Revoked::Secret { name: "agent".to_owned(), id: old });
    assert_eq!(file.read().unwrap()[0].secrets, token.secrets[1..]);
}

#[test]
fn a_token_has_a_bounded_number_of_secrets() {
    let (_folder, file) = file();
    file.add(new_token("agent")).unwrap();
    for _ in 1..SECRETS_MAX {
        file.rotate("agent", NOW_S, 60).unwrap();
    }
    assert!(matches!(file.rotate("agent", NOW_S, 60), Err(TokenFileError::TooManySecrets { .. })));
    assert_eq!(file.read().unwrap()[0].secrets.len(), SECRETS_MAX);
}

#[test]
fn version_2_is_written_only_where_something_needs_it() {
    let (_folder, file) = file();
    file.add(new_token("plain")).unwrap();
    assert_eq!(version(&file), 1);
    let full = NewToken {
        extra_labels: BTreeMap::from([("team".to_owned(), "a".to_owned())]),
        limits: LimitOverrides { samples_per_second: Some(1_000), ..LimitOverrides::default() },
        rules: serde_json::from_str(r#"{"allow":[{"networks":["10.0.0.0/8"]}],"deny":[{"methods":["DELETE"]}]}"#)
            .unwrap(),
        not_before: Some(NOW_S + 5),
        expires_at: Some(NOW_S + 50),
        ..new_token("full")
    };
    let (_, entry) = file.add(full).unwrap();
    assert_eq!(version(&file), 2);
    assert_eq!(file.read().unwrap()[1], entry, "what was written is what is read");
    let grant = entry.grant();
    assert_eq!((grant.not_before_s, grant.expires_s), (Some(NOW_S + 5), Some(NOW_S + 50)));
    assert_eq!(grant.extra_labels, [("team".to_owned(), "a".to_owned())]);
    file.remove("full").unwrap();
    assert_eq!(version(&file), 1, "an older Pharos can read it again");
}

#[test]
fn a_file_of_version_1_is_read() {
    let (_folder, file) = file();
    let sha256 = "ab".repeat(32);
    let text = format!(
        r#"{{"version":1,"tokens":[{{"id":"abababab","name":"ci","sha256":"{sha256}","scopes":["metrics:read","admin"],
            "tenant":"7,8","created_at":1,"expires_at":9}}]}}"#
    );
    fs::write(file.path(), text).unwrap();
    let [token] = file.read().unwrap().try_into().unwrap();
    assert_eq!((token.name.as_str(), token.tenant.to_string(), token.expires_at), ("ci", "7,8".to_owned(), Some(9)));
    assert_eq!(token.secrets[0].sha256, [0xab; 32]);
}

#[test]
fn a_broken_file_is_named_not_ignored() {
    let (_folder, file) = file();
    let sha256 = "ab".repeat(32);
    let token = |more: &str, secrets: &str| {
        format!(
            r#"{{"version":2,"tokens":[{{"name":"ci","secrets":[{secrets}],"scopes":["admin"],"tenant":"7","created_at":1{more}}}]}}"#
        )
    };
    let secret = format!(r#"{{"id":"abababab","sha256":"{sha256}","created_at":1}}"#);
    let of_id = |id: &str, byte: &str| format!(r#"{{"id":"{id}","sha256":"{}","created_at":1}}"#, byte.repeat(32));
    let two = |second: &str| {
        let entry = |name: &str, secret: &str| {
            format!(r#"{{"name":"{name}","secrets":[{secret}],"scopes":["admin"],"tenant":"7","created_at":1}}"#)
        };
        format!(r#"{{"version":2,"tokens":[{},{}]}}"#, entry("ci", &secret), entry(second, &of_id("cdcdcdcd", "cd")))
    };
    let two_of_version_1 = |second: &str| {
        let entry = |name: &str, byte: &str| {
            let (id, sha256) = (byte.repeat(4), byte.repeat(32));
            format!(r#"{{"id":"{id}","name":"{name}","sha256":"{sha256}","scopes":[],"tenant":"7","created_at":1}}"#)
        };
        format!(r#"{{"version":1,"tokens":[{},{}]}}"#, entry("ci", "ab"), entry(second, "cd"))
    };
    for (text, part) in [
        ("{".to_owned(), "is not valid"),
        (r#"{"version":9,"tokens":[]}"#.to_owned(), "has version 9"),
        (token("", ""), "must have 1 to 8 secrets"),
        (token("", &format!("{secret},{secret}")), "there twice"),
        (token("", &format!("{secret},{}", of_id("abababab", "cd"))), "whose id is there twice"),
        (two("ci"), "two tokens are called \"ci\""),
        (two_of_version_1("ci"), "two tokens are called \"ci\""),
        (two(""), "has no name"),
        (token(r#","extra_labels":{"__name__":"x"}"#, &secret), "cannot set the label"),
        (token(r#","colour":"red""#, &secret), "is not valid"),
        (token(r#","allow":[{"networks":["ten"]}]"#, &secret), "is not valid"),
    ] {
        fs::write(file.path(), &text).unwrap();
        let error = file.read().unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
    for (text, count) in [(token("", &secret), 1), (two("other"), 2), (two_of_version_1("other"), 2)] {
        fs::write(file.path(), text).unwrap();
        assert_eq!(file.read().unwrap().len(), count);
    }
    let nameless = file.add(new_token("")).unwrap_err();
    assert!(nameless.to_string().contains("has no name"), "{nameless}");
}

/// A crash while the file is replaced leaves the temporary one behind; the file itself is whole, the next change goes on.
#[test]
fn what_a_crash_left_behind_does_no_harm() {
    let (_folder, file) = file();
    file.add(new_token("a")).unwrap();
    fs::write(file.path().with_extension("json.new"), "{\"version\":2,\"tok").unwrap();
    assert_eq!(file.read().unwrap().len(), 1);
    file.add(new_token("b")).unwrap();
    assert_eq!(file.read().unwrap().len(), 2);
    assert!(!file.path().with_extension("json.new").exists());
}
