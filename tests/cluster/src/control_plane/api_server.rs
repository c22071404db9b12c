//! How the API server is started.

use std::fs;
use std::path::PathBuf;

use super::ControlPlane;
use crate::ClusterError;
use crate::certificates::Identity;

/// The addresses of services.
const SERVICES: &str = "10.96.0.0/16";
/// The address of the service `kubernetes`, which pods know from their environment.
const API_SERVICE: &str = "10.96.0.1";

/// Says of every request, once it is answered, who asked for what.
const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
";

impl ControlPlane {
    pub(super) fn write_audit_policy(&self) -> Result<(), ClusterError> {
        let policy = self.path("audit-policy.yaml");
        fs::write(policy, AUDIT_POLICY).map_err(ClusterError::io("write the audit policy"))
    }

    pub(super) fn api_server_args(&self) -> Result<Vec<String>, ClusterError> {
        let address = self.place.address.to_string();
        let names = [address.as_str(), API_SERVICE, "kubernetes.default.svc", "localhost"];
        let serving = self.authority.server("kube-apiserver", names.map(str::to_owned).into())?;
        let kubelets = self.authority.client("apiserver-to-kubelets", Some("system:masters"))?;
        let tokens = self.signing_keys()?;
        let file = |path: PathBuf| path.display().to_string();
        let flags = [
            ("etcd-servers", self.place.etcd()),
            ("bind-address", address.clone()),
            ("advertise-address", address),
            ("secure-port", self.place.port.to_string()),
            ("tls-cert-file", file(serving.certificate)),
            ("tls-private-key-file", file(serving.key)),
            ("client-ca-file", file(self.authority.certificate())),
            // Nodes' names are in no DNS.
            ("kubelet-preferred-address-types", "InternalIP".to_owned()),
            ("kubelet-client-certificate", file(kubelets.certificate)),
            ("kubelet-client-key", file(kubelets.key)),
            ("service-account-issuer", "https://kubernetes.default.svc".to_owned()),
            ("service-account-key-file", file(tokens.certificate)),
            ("service-account-signing-key-file", file(tokens.key)),
            ("service-cluster-ip-range", SERVICES.to_owned()),
            ("authorization-mode", "Node,RBAC".to_owned()),
            ("allow-privileged", "true".to_owned()),
            // Endpoints may not be loopback addresses, and no pod could reach them.
            ("endpoint-reconciler-type", self.hub.as_ref().map_or("none", |_| "lease").to_owned()),
            ("audit-policy-file", file(self.path("audit-policy.yaml"))),
            ("audit-log-path", file(self.audit_log())),
        ];
        Ok(flags.map(|(flag, value)| format!("--{flag}={value}")).into())
    }

    /// The same keys after a restart, so that tokens stay valid.
    pub(super) fn signing_keys(&self) -> Result<Identity, ClusterError> {
        let keys = Identity {
            certificate: self.path("certificates/service-accounts.pub"),
            key: self.path("certificates/service-accounts.key"),
        };
        if keys.key.is_file() { Ok(keys) } else { self.authority.signing_keys() }
    }
}
