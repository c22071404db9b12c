{{- /* What the operator reads from its environment, each variable for the argument of its name. */}}
{{- define "heteroloco.environment" -}}
- name: POD_NAMESPACE
  valueFrom:
    fieldRef: {fieldPath: metadata.namespace}
{{- with .Values.watchNamespaces }}
- name: HETEROLOCO_WATCH_NAMESPACES
  value: {{ join "," . | quote }}
{{- if $.Values.idle.watchAllPods }}
- name: HETEROLOCO_WATCH_ALL_PODS
  value: "true"
{{- end }}
{{- end }}
- name: HETEROLOCO_COORDINATOR_IMAGE
  value: {{ include "heteroloco.operatorImage" . | quote }}
- name: HETEROLOCO_WORKER_IMAGE
  value: {{ include "heteroloco.image" (list .Values.worker.image (printf "%s-cuda" .Chart.AppVersion)) | quote }}
- name: HETEROLOCO_WORKER_CPU_IMAGE
  value: {{ include "heteroloco.image" (list .Values.worker.cpuImage (printf "%s-cpu" .Chart.AppVersion)) | quote }}
- name: HETEROLOCO_IMAGE_PULL_POLICY
  value: {{ .Values.image.pullPolicy | quote }}
{{- with .Values.imagePullSecrets }}
{{- $names := list }}
{{- range . }}{{ $names = append $names .name }}{{ end }}
- name: HETEROLOCO_IMAGE_PULL_SECRETS
  value: {{ join "," $names | quote }}
{{- end }}
{{- with include "heteroloco.priorityClassName" . }}
- name: HETEROLOCO_HARVEST_PRIORITY_CLASS
  value: {{ . | quote }}
{{- end }}
{{- if .Values.emulate }}
- name: HETEROLOCO_EMULATE
  value: "true"
{{- end }}
{{- if .Values.allowHostPath }}
- name: HETEROLOCO_ALLOW_HOST_PATH
  value: "true"
{{- end }}
- name: HETEROLOCO_LISTEN
  value: 0.0.0.0:8080
- name: HETEROLOCO_LEADER_ELECTION
  value: {{ .Values.leaderElection | quote }}
- name: HETEROLOCO_CONCURRENCY
  value: {{ .Values.concurrency | quote }}
- name: HETEROLOCO_LOG
  value: {{ .Values.log.format | quote }}
- name: RUST_LOG
  value: {{ .Values.log.filter | quote }}
{{- with .Values.tracing.endpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- with .Values.env }}
{{ toYaml . }}
{{- end }}
{{- end }}
