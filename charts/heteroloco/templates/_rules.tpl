{{- /* What the operator may do in the namespaces that it looks after. */}}
{{- define "heteroloco.namespacedRules" -}}
- apiGroups: [heteroloco.dev]
  resources: [trainingruns, computeislands, islandpools]
  verbs: [get, list, watch, patch]
- apiGroups: [heteroloco.dev]
  resources: [trainingruns/status, computeislands/status, islandpools/status]
  verbs: [patch, update]
# An owner reference that blocks its owner's deletion takes this where admission asks for it.
- apiGroups: [heteroloco.dev]
  resources: [trainingruns/finalizers, computeislands/finalizers, islandpools/finalizers]
  verbs: [update]
# A pool makes islands.
- apiGroups: [heteroloco.dev]
  resources: [computeislands]
  verbs: [create, delete]
- apiGroups: [""]
  resources: [pods, services, configmaps, persistentvolumeclaims]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: ["", events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{- /* What has no namespace. */}}
{{- define "heteroloco.clusterRules" -}}
- apiGroups: [""]
  resources: [nodes]
  verbs: [get, list, watch]
# What NVIDIA's DRA driver says of cards, where it is installed.
- apiGroups: [resource.k8s.io]
  resources: [resourceslices]
  verbs: [get, list, watch]
{{- end }}
