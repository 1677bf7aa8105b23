//! TLS with the machine's own certificates.

use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// The certificates, read when they are first needed.
#[derive(Default)]
pub(crate) struct Tls(OnceCell<TlsConnector>);

impl Tls {
    /// A TLS connection to this host over that connection. The error is for the owner of the function.
    pub(crate) async fn wrap(&self, host: &str, stream: TcpStream) -> Result<TlsStream<TcpStream>, String> {
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
        let name = name.map_err(|_| format!("{host:?} is no name that a certificate can have"))?;
        let connector = self.0.get_or_try_init(connector).await?;
        connector.connect(name, stream).await.map_err(|error| format!("no TLS with {host}: {error}"))
    }
}

async fn connector() -> Result<TlsConnector, String> {
    let unknown = |why: &dyn std::fmt::Display| format!("the server cannot check certificates: {why}");
    let loaded = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
    let loaded = loaded.map_err(|error| unknown(&error))?;
    let mut roots = RootCertStore::empty();
    let (added, _broken) = roots.add_parsable_certificates(loaded.certs);
    if added == 0 {
        return Err(unknown(&"the machine has no root certificates; its operator installs ca-certificates"));
    }
    trusting(roots).map_err(|error| unknown(&error))
}

/// TLS that trusts these certificates alone.
fn trusting(roots: RootCertStore) -> Result<TlsConnector, tokio_rustls::rustls::Error> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::ServerConfig;
    use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

    use super::*;

    /// A server with a certificate for `localhost` that greets, and who trusts it.
    async fn greeting() -> (TcpListener, TlsAcceptor, CertificateDer<'static>) {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        (listener, TlsAcceptor::from(Arc::new(config)), cert.der().clone())
    }

    async fn read(host: &str, trusted: bool) -> Result<String, String> {
        let (listener, acceptor, certificate) = greeting().await;
        let address = listener.local_addr().unwrap();
        let serving = async {
            let (stream, _) = listener.accept().await.unwrap();
            // The client may not want to go on.
            if let Ok(mut stream) = acceptor.accept(stream).await {
                drop(stream.write_all(b"hello").await);
                drop(stream.shutdown().await);
            }
        };
        let mut roots = RootCertStore::empty();
        if trusted {
            roots.add(certificate).unwrap();
        }
        let tls = Tls(OnceCell::new_with(Some(trusting(roots).unwrap())));
        let asking = async {
            let stream = TcpStream::connect(address).await.unwrap();
            let mut text = String::new();
            tls.wrap(host, stream)
                .await?
                .read_to_string(&mut text)
                .await
                .map_err(|error| error.to_string())?;
            Ok(text)
        };
        tokio::join!(serving, asking).1
    }

    #[tokio::test]
    async fn only_a_trusted_certificate_of_the_host_is_accepted() {
        assert_eq!(read("localhost", true).await.as_deref(), Ok("hello"));
        let (other, unknown) = (read("example.com", true).await, read("localhost", false).await);
        assert!(matches!(&other, Err(why) if why.contains("not valid for name")), "{other:?}");
        assert!(matches!(&unknown, Err(why) if why.contains("UnknownIssuer")), "{unknown:?}");
    }
}
