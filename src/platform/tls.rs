//! Whom a TLS client trusts: the authorities of a file, or those of the system.
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject},
};
use std::{path::Path, sync::Arc};

/// Why the certificate authorities cannot be used.
pub type AuthoritiesError = Box<dyn std::error::Error + Send + Sync>;

/// Trusts the PEM certificates in `ca_file` and nobody else, or whom the system trusts where none is named.
///
/// The provider is named: dependencies bring a second one into the binary, and then rustls chooses none by itself.
pub fn client_config(ca_file: Option<&Path>) -> Result<ClientConfig, AuthoritiesError> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            for authority in CertificateDer::pem_file_iter(path)? {
                roots.add(authority?)?;
            }
        }
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    Ok(builder.with_safe_default_protocol_versions()?.with_root_certificates(roots).with_no_client_auth())
}
