//! DTLS for sessions: str0m's, with one configuration for all of them.
//!
//! What str0m brings makes a configuration for each session, and each of those tries every key exchange and signature of the
//! library: a seventh of what a viewer costs to set up.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Instant,
};

use dimpl::{Config, Dtls};
use str0m::{
    config::DtlsVersion,
    crypto::{
        CryptoError, CryptoProvider,
        dtls::{DtlsCert, DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, ProtocolVersion},
        from_feature_flags,
    },
};

/// str0m's cryptography, with this DTLS.
pub(super) fn crypto() -> CryptoProvider {
    CryptoProvider { dtls_provider: &Shared, ..from_feature_flags() }
}

#[derive(Debug)]
struct Shared;

impl Shared {
    /// Made for the first session with datagrams of that size, of which there is one.
    fn config(mtu: Option<usize>) -> Result<Arc<Config>, CryptoError> {
        static MADE: Mutex<BTreeMap<Option<usize>, Arc<Config>>> = Mutex::new(BTreeMap::new());
        let mut made = MADE.lock().expect("nothing panics under this lock");
        if let Some(config) = made.get(&mtu) {
            return Ok(config.clone());
        }
        // ICE has shown that he is where he says: no cookie need prove it (RFC 6347 §4.2.1).
        let builder = Config::builder().use_server_cookie(false);
        let builder = if let Some(mtu) = mtu { builder.mtu(mtu) } else { builder };
        let config = builder.build().map_err(|error| CryptoError::Other(format!("DTLS: {error}")))?;
        Ok(made.entry(mtu).or_insert(Arc::new(config)).clone())
    }
}

impl DtlsProvider for Shared {
    fn generate_certificate(&self) -> Option<DtlsCert> {
        from_feature_flags().dtls_provider.generate_certificate()
    }

    fn new_dtls(
        &self,
        certificate: &DtlsCert,
        now: Instant,
        version: DtlsVersion,
        mtu: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, CryptoError> {
        let (config, certificate) = (Self::config(mtu)?, certificate.clone());
        let dtls = match version {
            DtlsVersion::Dtls12 => Dtls::new_12(config, certificate, now),
            DtlsVersion::Dtls13 => Dtls::new_13(config, certificate, now),
            DtlsVersion::Auto => Dtls::new_auto(config, certificate, now),
            other => return Err(CryptoError::Other(format!("DTLS {other} is not known here"))),
        };
        Ok(Box::new(Session(dtls)))
    }
}

/// str0m names the same of each DTLS library.
struct Session(Dtls);

impl std::fmt::Debug for Session {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Session").finish_non_exhaustive()
    }
}

impl DtlsInstance for Session {
    fn set_active(&mut self, active: bool) {
        self.0.set_active(active);
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        self.0.handle_packet(packet)
    }

    fn poll_output<'a>(&mut self, buffer: &'a mut [u8]) -> DtlsOutput<'a> {
        self.0.poll_output(buffer)
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsImplError> {
        self.0.handle_timeout(now)
    }

    fn send_application_data(&mut self, data: &[u8]) -> Result<usize, DtlsImplError> {
        self.0.send_application_data(data)
    }

    fn is_active(&self) -> bool {
        self.0.is_active()
    }

    fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.0.protocol_version()
    }

    fn is_closing(&self) -> bool {
        self.0.is_closing()
    }

    fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    fn close(&mut self) -> Result<(), DtlsImplError> {
        self.0.close()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_share_a_configuration() {
        let [one, other, larger] = [1_150, 1_150, 1_400].map(|mtu| Shared::config(Some(mtu)).unwrap());
        assert!(Arc::ptr_eq(&one, &other) && !Arc::ptr_eq(&one, &larger));
        assert_eq!((one.mtu(), larger.mtu()), (1_150, 1_400));
    }
}
