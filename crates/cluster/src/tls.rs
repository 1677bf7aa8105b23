//! TLS between nodes: each shows a certificate of the cluster's own authority, and takes nobody who does not.
//!
//! The files are read again every minute, so that certificates can be renewed without a restart; connections that are open go
//! on with what they began with.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::net::TcpStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// How often the files are looked at.
const INTERVAL: Duration = Duration::from_secs(60);
/// What is spoken inside: HTTP/2.
const ALPN: &[u8] = b"h2";

/// Where a node's certificates are, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authorities that every node's certificate must be from.
    pub authority: PathBuf,
    /// This node's own certificate, with those between it and its authority. It must be good for servers and clients, and
    /// a worker's for the host under which it is reached.
    pub certificate: PathBuf,
    /// The key of that certificate, not encrypted.
    pub key: PathBuf,
}

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be looked at.
    #[error("cannot read {0}")]
    Read(PathBuf, #[source] io::Error),
    /// A file is not what it should be.
    #[error("{0} is not {1} in PEM")]
    Parse(PathBuf, &'static str, #[source] pem::Error),
    /// The authorities cannot be used.
    #[error("{0} has no authority that can be used")]
    Authority(PathBuf, #[source] VerifierBuilderError),
    /// The certificate and the key cannot be used together.
    #[error("the certificate and the key of this node cannot be used")]
    Pair(#[from] tokio_rustls::rustls::Error),
}

/// Both ends of connections between nodes.
pub struct Tls {
    files: TlsFiles,
    ends: ArcSwap<Ends>,
}

struct Ends {
    changed: [SystemTime; 3],
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

impl Tls {
    /// TLS with what these files have now. Blocks while they are read.
    pub fn open(files: TlsFiles) -> Result<Arc<Self>, TlsError> {
        let ends = Ends::read(&files)?;
        Ok(Arc::new(Self { files, ends: ArcSwap::from_pointee(ends) }))
    }

    /// Takes up renewed files, until dropped. Files that cannot be used are told of, and the last ones stay.
    pub async fn follow(self: Arc<Self>) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            let tls = self.clone();
            match tokio::task::spawn_blocking(move || tls.renew()).await {
                Ok(Ok(true)) => {
                    tracing::info!("connections to other nodes use renewed certificates from now on")
                }
                Ok(Ok(false)) | Err(_) => {}
                Ok(Err(error)) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "renewed certificates cannot be used; the last ones stay in use");
                }
            }
        }
    }

    fn renew(&self) -> Result<bool, TlsError> {
        if self.ends.load().changed == changed(&self.files)? {
            return Ok(false);
        }
        self.ends.store(Arc::new(Ends::read(&self.files)?));
        Ok(true)
    }

    /// The server's end of a connection.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<server::TlsStream<TcpStream>> {
        let acceptor = self.ends.load().acceptor.clone();
        acceptor.accept(stream).await
    }

    /// The client's end of a connection to this host.
    pub(crate) async fn connect(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> io::Result<client::TlsStream<TcpStream>> {
        let name =
            ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(io::Error::other)?;
        let connector = self.ends.load().connector.clone();
        connector.connect(name, stream).await
    }
}

impl Ends {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        // Before the contents: what changes meanwhile is read again.
        let changed = changed(files)?;
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        for authority in certificates(&files.authority, "certificates")? {
            roots.add(authority)?;
        }
        let roots = Arc::new(roots);
        let chain = certificates(&files.certificate, "a certificate")?;
        let key = PrivateKeyDer::from_pem_file(&files.key)
            .map_err(|error| TlsError::Parse(files.key.clone(), "a private key", error))?;
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|error| TlsError::Authority(files.authority.clone(), error))?;
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key())?;
        server.alpn_protocols = vec![ALPN.to_vec()];
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        client.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self {
            changed,
            acceptor: TlsAcceptor::from(Arc::new(server)),
            connector: TlsConnector::from(Arc::new(client)),
        })
    }
}

fn certificates(path: &Path, what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let broken = |error| TlsError::Parse(path.to_owned(), what, error);
    let read: Vec<_> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(broken)?;
    if read.is_empty() { Err(broken(pem::Error::NoItemsFound)) } else { Ok(read) }
}

fn changed(files: &TlsFiles) -> Result<[SystemTime; 3], TlsError> {
    let of = |path: &PathBuf| {
        let changed = std::fs::metadata(path).and_then(|metadata| metadata.modified());
        changed.map_err(|error| TlsError::Read(path.clone(), error))
    };
    Ok([of(&files.authority)?, of(&files.certificate)?, of(&files.key)?])
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    type Authority = CertifiedIssuer<'static, KeyPair>;

    fn authority() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    /// The files of a node of this host.
    fn certify(folder: &Path, authority: &Authority, host: &str) -> TlsFiles {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([host.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, authority).unwrap();
        let files = TlsFiles {
            authority: folder.join("ca.pem"),
            certificate: folder.join("node.pem"),
            key: folder.join("node.key"),
        };
        std::fs::write(&files.authority, authority.pem()).unwrap();
        std::fs::write(&files.certificate, certificate.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }

    /// What a client of this host reads from a server that greets.
    async fn greeted(server: &Tls, client: &Tls, host: &str) -> Result<String, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = async {
            let (stream, _) = listener.accept().await.unwrap();
            // The client may not want to go on.
            if let Ok(mut stream) = server.accept(stream).await {
                drop(stream.write_all(b"hello").await);
                drop(stream.shutdown().await);
            }
        };
        let asking = async {
            let mut text = String::new();
            let stream = TcpStream::connect(address).await?;
            client.connect(host, stream).await?.read_to_string(&mut text).await?;
            Ok(text)
        };
        let (_, asked): (_, io::Result<String>) = tokio::join!(serving, asking);
        asked.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn only_nodes_of_one_authority_under_their_own_name_speak() {
        let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let [one, two, three] = folders.each_ref().map(tempfile::TempDir::path);
        let own = authority();
        let worker = Tls::open(certify(one, &own, "localhost")).unwrap();
        let controller = Tls::open(certify(two, &own, "anything")).unwrap();
        let stranger = Tls::open(certify(three, &authority(), "localhost")).unwrap();
        assert_eq!(greeted(&worker, &controller, "localhost").await.as_deref(), Ok("hello"));
        for (server, client, host) in [
            (&worker, &controller, "elsewhere"),
            (&worker, &stranger, "localhost"),
            (&stranger, &controller, "localhost"),
        ] {
            let refused = greeted(server, client, host).await;
            assert!(matches!(&refused, Err(why) if why.contains("certificate")), "{refused:?}");
        }
        // It trusts the worker, but has nothing to show.
        let files = TlsFiles { authority: one.join("ca.pem"), ..stranger.files.clone() };
        let impostor = Tls::open(files).unwrap();
        let refused = greeted(&worker, &impostor, "localhost").await;
        assert!(matches!(&refused, Err(why) if why.contains("alert")), "{refused:?}");
    }

    #[tokio::test]
    async fn renewed_files_are_taken_up_and_broken_ones_are_not() {
        let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let [one, two] = folders.each_ref().map(tempfile::TempDir::path);
        let (old, new) = (authority(), authority());
        let worker = Tls::open(certify(one, &old, "localhost")).unwrap();
        let controller = Tls::open(certify(two, &new, "localhost")).unwrap();
        assert!(!worker.renew().unwrap());
        assert!(greeted(&worker, &controller, "localhost").await.is_err());
        let files = certify(one, &new, "localhost");
        let later = SystemTime::now() + INTERVAL;
        std::fs::File::options().append(true).open(&files.key).unwrap().set_modified(later).unwrap();
        assert!(worker.renew().unwrap());
        assert_eq!(greeted(&worker, &controller, "localhost").await.as_deref(), Ok("hello"));
        std::fs::write(&files.key, "no key").unwrap();
        assert!(matches!(worker.renew(), Err(TlsError::Parse(path, ..)) if path == files.key));
        assert_eq!(greeted(&worker, &controller, "localhost").await.as_deref(), Ok("hello"));
    }
}
