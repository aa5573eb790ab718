//! The server's certificate: the operator's own, or one made on first start and kept.
//!
//! Either is watched: when the files change, new connections get the new certificate and those that
//! stand are not touched. A file that cannot be used is logged, and the old certificate stays.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use jiff::{ToSpan, Zoned};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, PKCS_ECDSA_P256_SHA256, date_time_ymd};
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

/// How often the files are looked at.
const WATCH_EVERY: Duration = Duration::from_secs(2);
/// Some platforms refuse server certificates that are good for more than 825 days.
const SELF_SIGNED_DAYS: i32 = 800;
/// An own certificate this old is made anew, before it ends.
const SELF_SIGNED_RENEW: Duration = Duration::from_secs(760 * 24 * 3600);

/// Why there is no TLS.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file has no certificate, or no key, in PEM.
    #[error("{}: {problem}", path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Certificate and key do not fit, or are of a kind that rustls does not know.
    #[error("{} and {} cannot be used together: {problem}", cert.display(), key.display())]
    Pair {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The self-signed certificate could not be made.
    #[error("the self-signed certificate could not be made: {0}")]
    SelfSigned(#[from] rcgen::Error),
    /// TLS could not be set up.
    #[error("TLS: {0}")]
    Setup(#[from] rustls::Error),
}

/// A certificate and its key, as files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PemFiles {
    /// The chain.
    pub cert: PathBuf,
    /// The key.
    pub key: PathBuf,
}

impl PemFiles {
    /// The self-signed pair in `data_dir`, made if it is not there or near its end.
    ///
    /// # Errors
    /// [`TlsError::File`] or [`TlsError::SelfSigned`].
    pub fn self_signed(data_dir: &Path) -> Result<Self, TlsError> {
        let folder = data_dir.join("tls");
        let files = Self { cert: folder.join("cert.pem"), key: folder.join("key.pem") };
        let young = |path: &Path| {
            let age = fs::metadata(path).and_then(|meta| meta.modified()).ok()?.elapsed().unwrap_or_default();
            (age < SELF_SIGNED_RENEW).then_some(())
        };
        if young(&files.cert).and(young(&files.key)).is_none() {
            files.make(&folder)?;
        }
        Ok(files)
    }

    fn make(&self, folder: &Path) -> Result<(), TlsError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let cert = self_signed_params(&own_names())?.self_signed(&key)?;
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| TlsError::File { path, source }
        };
        fs::create_dir_all(folder).map_err(failed(folder))?;
        write_new(&self.key, &key.serialize_pem(), 0o600).map_err(failed(&self.key))?;
        write_new(&self.cert, &cert.pem(), 0o644).map_err(failed(&self.cert))?;
        tracing::info!(cert = %self.cert.display(), "made a self-signed certificate");
        Ok(())
    }

    /// Reads both and checks that they fit.
    ///
    /// # Errors
    /// [`TlsError::Pem`] or [`TlsError::Pair`].
    pub fn load(&self) -> Result<CertifiedKey, TlsError> {
        let bad = |path: &Path, problem: String| TlsError::Pem { path: path.to_owned(), problem };
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&self.cert)
            .and_then(Iterator::collect)
            .map_err(|error| bad(&self.cert, error.to_string()))?;
        if chain.is_empty() {
            return Err(bad(&self.cert, "there is no certificate in it".into()));
        }
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| bad(&self.key, error.to_string()))?;
        CertifiedKey::from_der(chain, key, &provider()).map_err(|error| TlsError::Pair {
            cert: self.cert.clone(),
            key: self.key.clone(),
            problem: error.to_string(),
        })
    }

    /// Changes whenever a file does.
    fn stamp(&self) -> [Option<(SystemTime, u64)>; 2] {
        [&self.cert, &self.key].map(|path| {
            let meta = fs::metadata(path).ok()?;
            Some((meta.modified().ok()?, meta.len()))
        })
    }
}

/// The certificate in use, which new connections ask for.
#[derive(Debug)]
pub struct Certificate {
    files: PemFiles,
    current: ArcSwap<CertifiedKey>,
}

impl Certificate {
    /// Loads the certificate.
    ///
    /// # Errors
    /// As [`PemFiles::load`].
    pub fn load(files: PemFiles) -> Result<Arc<Self>, TlsError> {
        let current = ArcSwap::from_pointee(files.load()?);
        Ok(Arc::new(Self { files, current }))
    }

    /// What connections are accepted with.
    ///
    /// # Errors
    /// [`TlsError::Setup`].
    pub fn server_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, TlsError> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// Reloads the files when they change, until `stop`.
    pub async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let mut seen = self.files.stamp();
        let mut clock = tokio::time::interval(WATCH_EVERY);
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = clock.tick() => {}
                () = stop.cancelled() => return,
            }
            // Noted before the files are read: what is written meanwhile is seen at the next look.
            let now = self.files.stamp();
            if now != seen {
                seen = now;
                self.reload();
            }
        }
    }

    fn reload(&self) {
        match self.files.load() {
            Ok(fresh) => {
                self.current.store(Arc::new(fresh));
                tracing::info!(cert = %self.files.cert.display(), "took up the changed certificate");
            }
            // Half of a pair may have been written; the next change tries again.
            Err(error) => tracing::warn!("the changed certificate is not used: {error}"),
        }
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn self_signed_params(names: &[String]) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, "Salon (self-signed)");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let today = Zoned::now().with_time_zone(jiff::tz::TimeZone::UTC).date();
    // A day back, for clients whose clock is slow.
    let (first, last) = (today.saturating_sub(1.day()), today.saturating_add(SELF_SIGNED_DAYS.days()));
    let date = |date: jiff::civil::Date| {
        date_time_ymd(i32::from(date.year()), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    (params.not_before, params.not_after) = (date(first), date(last));
    Ok(params)
}

/// What a browser may call this machine.
fn own_names() -> Vec<String> {
    let mut names = vec!["localhost".to_owned()];
    let hostname = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    names.extend(Some(hostname.trim()).filter(|name| !name.is_empty() && name.is_ascii()).map(str::to_owned));
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    names.extend(interfaces.iter().map(|interface| interface.ip().to_string()));
    names.sort();
    names.dedup();
    names
}

/// Writes a file that is never seen half, and never readable by others than `mode` says.
fn write_new(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let part = path.with_extension("pem.part");
    let _ = fs::remove_file(&part);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&part)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&part, path)
}
