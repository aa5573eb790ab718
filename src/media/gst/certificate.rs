//! The certificate of DTLS: one ECDSA key for the process.
//!
//! webrtcbin would make an RSA key for each connection, which takes tens of milliseconds and which some
//! clients refuse (str0m takes ECDSA only).

use std::sync::OnceLock;

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use sha2::{Digest, Sha256};

/// A certificate, its key, and what descriptions say of it.
#[derive(Debug)]
pub(super) struct Identity {
    /// Certificate and key, as `dtlssrtpdec` takes them.
    pub(super) pem: String,
    /// `sha-256 AB:CD…` (RFC 8122 §5).
    fingerprint: String,
}

impl Identity {
    /// The process's own, made at the first call. `None` if none can be made: webrtcbin's will do.
    pub(super) fn get() -> Option<&'static Self> {
        static IDENTITY: OnceLock<Option<Identity>> = OnceLock::new();
        let made = IDENTITY.get_or_init(|| {
            Self::make().inspect_err(|error| tracing::error!("no certificate could be made for DTLS: {error}")).ok()
        });
        made.as_ref()
    }

    fn make() -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = CertificateParams::new(Vec::new())?.self_signed(&key)?;
        let hash: Vec<String> = Sha256::digest(certificate.der()).iter().map(|byte| format!("{byte:02X}")).collect();
        let pem = format!("{}{}", certificate.pem(), key.serialize_pem());
        Ok(Self { pem, fingerprint: format!("sha-256 {}", hash.join(":")) })
    }

    /// One of our descriptions with the fingerprint of this certificate: webrtcbin hashes the whole PEM,
    /// key and all.
    pub(super) fn described(&self, sdp: &str) -> String {
        let line = |line: &str| match line.strip_prefix("a=fingerprint:") {
            Some(_) => format!("a=fingerprint:{}\r\n", self.fingerprint),
            None => format!("{line}\r\n"),
        };
        sdp.lines().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_tell_the_certificates_own_fingerprint() {
        let identity = Identity::get().unwrap();
        let told = identity.described("v=0\r\na=fingerprint:sha-256 00:11\r\na=setup:active\r\n");
        assert_eq!(told, format!("v=0\r\na=fingerprint:{}\r\na=setup:active\r\n", identity.fingerprint));
        assert_eq!(identity.fingerprint.len(), "sha-256 ".len() + 32 * 3 - 1);
        assert!(identity.pem.contains("BEGIN CERTIFICATE") && identity.pem.contains("BEGIN PRIVATE KEY"));
    }
}
