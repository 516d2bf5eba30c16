//! What single ports have otherwise than all.

use pharos_http::{TlsOverride, TlsSettings};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

use super::Settings;

/// The ports, by the names of their settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PortName {
    Listen,
    OtlpGrpc,
    OtlpHttp,
    Jaeger,
    JaegerGrpc,
}

impl PortName {
    pub(crate) const ALL: [Self; 5] = [Self::Listen, Self::OtlpGrpc, Self::OtlpHttp, Self::Jaeger, Self::JaegerGrpc];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Listen => "listen",
            Self::OtlpGrpc => "otlp_grpc",
            Self::OtlpHttp => "otlp_http",
            Self::Jaeger => "jaeger",
            Self::JaegerGrpc => "jaeger_grpc",
        }
    }
}

/// One port and what it has otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListenerEntry {
    pub(crate) port: PortName,
    pub(crate) tls: PortTls,
}

/// `off`, or the keys of `tls` that differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PortTls {
    Off,
    With(TlsOverride),
}

impl Serialize for PortTls {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_str("off"),
            Self::With(other) => other.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for PortTls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) if text == "off" => Ok(Self::Off),
            // YAML of older times reads `off` as a truth value.
            Value::Bool(false) => Ok(Self::Off),
            Value::String(text) => Err(de::Error::custom(format!("tls of a listener is off or a block, not {text:?}"))),
            block => serde_json::from_value(block).map(Self::With).map_err(de::Error::custom),
        }
    }
}

impl Settings {
    /// TLS of one port; `None` speaks plain HTTP.
    pub(crate) fn tls_of(&self, port: PortName) -> Option<TlsSettings> {
        let settings = match self.listeners.iter().find(|entry| entry.port == port).map(|entry| &entry.tls) {
            Some(PortTls::Off) => return None,
            Some(PortTls::With(other)) => self.tls.with(other),
            None => self.tls.clone(),
        };
        settings.is_on().then_some(settings)
    }

    /// Everything in `tls` and `listeners` that makes no sense.
    pub(super) fn tls_faults(&self) -> Vec<String> {
        let mut faults: Vec<_> = self.tls.faults().into_iter().map(|fault| format!("tls: {fault}")).collect();
        for (at, entry) in self.listeners.iter().enumerate() {
            let port = entry.port.as_str();
            if self.listeners[..at].iter().any(|earlier| earlier.port == entry.port) {
                faults.push(format!("listeners: {port} is there twice"));
            }
            if let PortTls::With(other) = &entry.tls {
                let settings = self.tls.with(other);
                let own = settings.faults().into_iter().filter(|fault| !self.tls.faults().contains(fault));
                faults.extend(own.map(|fault| format!("listeners: {port}: tls: {fault}")));
                if !settings.is_on() {
                    faults.push(format!("listeners: {port}: tls: name certificate and key, here or in tls"));
                }
            }
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pharos_http::ClientCertificates;

    fn settings(yaml: &str) -> Settings {
        serde_saphyr::from_str(yaml).unwrap()
    }

    #[test]
    fn a_port_has_what_all_have_but_for_what_it_says_itself() {
        let found = settings(
            "tls: {certificate: a.pem, key: a.key, client_ca: ca.pem, clients: optional}\n\
             listeners: [{port: listen, tls: off}, {port: otlp_grpc, tls: {clients: required}}]",
        );
        assert_eq!(found.tls_faults(), [""; 0]);
        assert_eq!(found.tls_of(PortName::Listen), None);
        assert_eq!(found.tls_of(PortName::OtlpGrpc).unwrap().clients, ClientCertificates::Required);
        let other = found.tls_of(PortName::Jaeger).unwrap();
        assert_eq!((other.clients, &other), (ClientCertificates::Optional, &found.tls));
        let text = serde_json::to_string(&found.listeners).unwrap();
        assert_eq!(serde_json::from_str::<Vec<ListenerEntry>>(&text).unwrap(), found.listeners, "{text}");
        assert_eq!(Settings::default().tls_of(PortName::Listen), None);
    }

    #[test]
    fn tls_that_cannot_be_is_told_with_its_port() {
        for (yaml, expected) in [
            ("tls: {certificate: a}", "tls: certificate and key"),
            ("tls: {certificate: a, key: b, clients: required}", "tls: clients: name in client_ca"),
            ("tls: {clients: optional, client_ca: c}", "tls: clients: certificates of clients need TLS"),
            ("tls: {certificate: a, key: b, client_crl: c}", "nothing is checked against them"),
            ("listeners: [{port: jaeger, tls: {key: a}}]", "listeners: jaeger: tls: certificate and key"),
            (
                "listeners: [{port: jaeger, tls: {}}]",
                "listeners: jaeger: tls: name certificate and key, here or in tls",
            ),
            ("listeners: [{port: jaeger, tls: off}, {port: jaeger, tls: off}]", "jaeger is there twice"),
        ] {
            let faults = settings(yaml).faults().join("\n");
            assert!(faults.contains(expected), "{yaml}: {faults}");
        }
        let error = serde_saphyr::from_str::<Settings>("listeners: [{port: jaeger, tls: on}]").unwrap_err().to_string();
        assert!(error.contains("off or a block") || error.contains("invalid type"), "{error}");
    }
}
