//! TLS with a source: its certificate is vouched for by the machine's own authorities, or is the one that was named.

use std::{fmt, str::FromStr, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs::default_provider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Host;

use super::rtsp::{RtspError, wire::Both};

/// The SHA-256 of a certificate: cameras make their own, which nobody vouches for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of a certificate in DER.
    pub fn of(certificate: &[u8]) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

/// `AA:BB:…` as `openssl x509 -fingerprint -sha256` writes it; colons may be left out.
impl FromStr for Fingerprint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
        let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
        let bytes: Option<Vec<u8>> = digits.chunks(2).map(pair).collect();
        let bytes = bytes.filter(|_| is_hex).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        bytes.map(Self).ok_or_else(|| "is no SHA-256: 32 bytes as AA:BB:…".into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<String> = self.0.iter().map(|byte| format!("{byte:02X}")).collect();
        f.write_str(&pairs.join(":"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// TLS over a connection to `host`. With a fingerprint, its certificate must be that one, whatever it says.
pub(crate) async fn connect(
    stream: TcpStream,
    host: &Host<String>,
    pinned: Option<Fingerprint>,
) -> Result<impl Both + use<>, RtspError> {
    let failed = |error: &dyn fmt::Display| RtspError::Tls(error.to_string());
    let provider = Arc::new(default_provider());
    let verifier = Verifier { pinned, authorities: authorities(&provider), provider: provider.clone() };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    let name = match host {
        Host::Domain(name) => ServerName::try_from(name.clone()).map_err(|error| failed(&error))?,
        Host::Ipv4(address) => ServerName::from(std::net::IpAddr::V4(*address)),
        Host::Ipv6(address) => ServerName::from(std::net::IpAddr::V6(*address)),
    };
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|error| failed(&error))
}

/// The machine's own; `None` if it has none.
fn authorities(provider: &Arc<CryptoProvider>) -> Option<Arc<WebPkiServerVerifier>> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().ok()
}

#[derive(Debug)]
struct Verifier {
    pinned: Option<Fingerprint>,
    authorities: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let its = Fingerprint::of(certificate);
        if let Some(pinned) = self.pinned {
            let other = || rustls::Error::General(format!("its certificate has another fingerprint: {its}"));
            return (its == pinned).then(ServerCertVerified::assertion).ok_or_else(other);
        }
        let verified = match &self.authorities {
            Some(authorities) => authorities.verify_server_cert(certificate, intermediates, name, ocsp, now),
            None => Err(rustls::Error::General("this machine knows no certificate authorities".into())),
        };
        // Most cameras sign their own: whoever knows it can allow it.
        verified.map_err(|error| rustls::Error::General(format!("{error}; to take this one: fingerprint {its}")))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_read_as_openssl_writes_them() {
        let its = Fingerprint::of(b"certificate");
        let text = its.to_string();
        assert_eq!(text.len(), 95);
        assert_eq!(text.parse(), Ok(its));
        assert_eq!(text.replace(':', "").to_lowercase().parse(), Ok(its));
        for bad in ["", "AA", "AA:BB", &text[2..], &text.replacen("0", "+", 64), "é", &format!("{text}:00")] {
            if bad != text {
                assert!(bad.parse::<Fingerprint>().is_err(), "{bad}");
            }
        }
    }
}
