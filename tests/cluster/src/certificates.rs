//! The cluster's authority and the certificates by which its parts know each other.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use crate::ClusterError;

/// A certificate and its key, as PEM files.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// Signs the certificates of one cluster.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: PathBuf,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Authority {
    /// A new authority whose files, and those of all that it signs, are in `folder`.
    pub(crate) fn new(folder: PathBuf) -> Result<Self, ClusterError> {
        let name = "heteroloco-test-cluster";
        let failed = |source| ClusterError::Certificate { subject: name.to_owned(), source };
        let mut params = params(name, None, Vec::new()).map_err(failed)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.self_signed(&key).map_err(failed)?;
        fs::create_dir_all(&folder).map_err(ClusterError::io("make a folder for certificates"))?;
        write(&folder.join("ca.crt"), &certificate.pem())?;
        Ok(Self { issuer: Issuer::new(params, key), folder })
    }

    /// The authority's own certificate.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// The identity of a client that is `user` in `group`: Kubernetes reads the common name and the
    /// organisation.
    pub(crate) fn client(&self, user: &str, group: Option<&str>) -> Result<Identity, ClusterError> {
        let failed = |source| ClusterError::Certificate { subject: user.to_owned(), source };
        let mut params = params(user, group, Vec::new()).map_err(failed)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(user, &params)
    }

    /// A server that is reached under `names`, addresses among them.
    pub(crate) fn server(&self, name: &str, names: Vec<String>) -> Result<Identity, ClusterError> {
        let failed = |source| ClusterError::Certificate { subject: name.to_owned(), source };
        let mut params = params(name, None, names).map_err(failed)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(name, &params)
    }

    fn sign(&self, name: &str, params: &CertificateParams) -> Result<Identity, ClusterError> {
        let failed = |source| ClusterError::Certificate { subject: name.to_owned(), source };
        let pair = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&pair, &self.issuer).map_err(failed)?;
        let file = self.folder.join(name.replace(':', "-"));
        let identity = Identity {
            certificate: file.with_added_extension("crt"),
            key: file.with_added_extension("key"),
        };
        write(&identity.certificate, &certificate.pem())?;
        write(&identity.key, &pair.serialize_pem())?;
        Ok(identity)
    }

    /// A pair of keys without a certificate: what signs the tokens of service accounts. The
    /// identity's `certificate` is the public key.
    pub(crate) fn signing_keys(&self) -> Result<Identity, ClusterError> {
        let subject = "service-accounts";
        let failed = |source| ClusterError::Certificate { subject: subject.to_owned(), source };
        let pair = KeyPair::generate().map_err(failed)?;
        let file = self.folder.join(subject);
        let keys = Identity {
            certificate: file.with_added_extension("pub"),
            key: file.with_added_extension("key"),
        };
        write(&keys.certificate, &pair.public_key_pem())?;
        write(&keys.key, &pair.serialize_pem())?;
        Ok(keys)
    }
}

fn params(
    user: &str,
    group: Option<&str>,
    names: Vec<String>,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, user);
    if let Some(group) = group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    Ok(params)
}

fn write(path: &Path, text: &str) -> Result<(), ClusterError> {
    fs::write(path, text).map_err(ClusterError::io(format!("write {}", path.display())))
}
