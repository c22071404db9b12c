{{- define "heteroloco.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "heteroloco.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains (include "heteroloco.name" .) .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "heteroloco.name" .) | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- /* Two releases in two namespaces must not share what has no namespace. */}}
{{- define "heteroloco.clusterName" -}}
{{- $name := include "heteroloco.fullname" . }}
{{- ternary $name (printf "%s-%s" .Release.Namespace $name) (eq .Release.Namespace $name) }}
{{- end }}

{{- define "heteroloco.selectorLabels" -}}
app.kubernetes.io/name: {{ include "heteroloco.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "heteroloco.labels" -}}
{{ include "heteroloco.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: heteroloco
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "heteroloco.operatorLabels" -}}
{{ include "heteroloco.selectorLabels" . }}
app.kubernetes.io/component: operator
{{- end }}

{{- /* What the chart adds to the definitions that `make gen` writes. */}}
{{- define "heteroloco.crdMetadata" -}}
labels:
  {{- include "heteroloco.labels" . | nindent 2 }}
{{- if .Values.crds.keep }}
annotations:
  helm.sh/resource-policy: keep
{{- end }}
{{- end }}

{{- /* An image by digest or else by tag: a list of the image's values and the tag where empty. */}}
{{- define "heteroloco.image" -}}
{{- $image := first . }}
{{- if $image.digest }}
{{- printf "%s@%s" $image.repository $image.digest }}
{{- else }}
{{- printf "%s:%s" $image.repository (default (last .) $image.tag) }}
{{- end }}
{{- end }}

{{- define "heteroloco.operatorImage" -}}
{{- include "heteroloco.image" (list .Values.image .Chart.AppVersion) }}
{{- end }}

{{- define "heteroloco.serviceAccountName" -}}
{{- $made := ternary (include "heteroloco.fullname" .) "default" .Values.serviceAccount.create }}
{{- default $made .Values.serviceAccount.name }}
{{- end }}

{{- define "heteroloco.priorityClassName" -}}
{{- $made := printf "%s-harvest" (include "heteroloco.clusterName" .) }}
{{- default (ternary $made "" .Values.priorityClass.create) .Values.priorityClass.name }}
{{- end }}

{{- /* Namespaces that the chart puts the policies of coordinators and workers into. */}}
{{- define "heteroloco.runNamespaces" -}}
{{- default (list .Release.Namespace) .Values.watchNamespaces | uniq | toJson }}
{{- end }}

{{- /* Labels of what the operator makes: the pods of runs and islands. */}}
{{- define "heteroloco.madePods" -}}
app.kubernetes.io/managed-by: heteroloco-operator
{{- end }}

{{- define "heteroloco.metricsFrom" -}}
{{- with .Values.networkPolicy.metricsFrom }}
from:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "heteroloco.dnsEgress" -}}
- ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
{{- end }}

{{- /* The port of the traces' collector; nothing where there is none. */}}
{{- define "heteroloco.tracingPort" -}}
{{- with .Values.tracing.endpoint }}
{{- $url := urlParse . }}
{{- $given := regexFind ":[0-9]+$" $url.host | trimPrefix ":" }}
{{- default (ternary "443" "80" (eq $url.scheme "https")) $given }}
{{- end }}
{{- end }}

{{- define "heteroloco.check" -}}
{{- if and (gt (int .Values.replicas) 1) (not .Values.leaderElection) }}
{{- fail "replicas is above 1 without leaderElection: two operators would work against each other; set leaderElection: true" }}
{{- end }}
{{- end }}
