{{- /* The name that all names begin with. */ -}}
{{- define "skein.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains "skein" .Release.Name -}}
{{- .Release.Name | trunc 43 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-skein" .Release.Name | trunc 43 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* What finds the pods of one component. Takes (list root component). */ -}}
{{- define "skein.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: skein
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- /* The labels of a pod of one component. None that changes with every release: the broker has no reason to
       restart then. Takes (list root component). */ -}}
{{- define "skein.podLabels" -}}
{{- $root := index . 0 -}}
{{ include "skein.selector" . }}
app.kubernetes.io/part-of: skein
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
{{- if ne (index . 1) "nats" }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
{{- end }}
{{- with $root.Values.podLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* The labels of an object of one component. Takes (list root component). */ -}}
{{- define "skein.labels" -}}
{{- $root := index . 0 -}}
{{ include "skein.selector" . }}
app.kubernetes.io/part-of: skein
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* Takes (list root image). */ -}}
{{- define "skein.image" -}}
{{- $root := index . 0 -}}{{- $image := index . 1 -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default $root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- /* The address of the bus: that of this release, or the user's. */ -}}
{{- define "skein.natsUrl" -}}
{{- if .Values.nats.enabled -}}
nats://{{ include "skein.fullname" . }}-nats.{{ .Release.Namespace }}.svc:4222
{{- else -}}
{{ .Values.nats.url }}
{{- end -}}
{{- end -}}

{{- /* A quantity of Mi, Gi or Ti in bytes. */ -}}
{{- define "skein.bytes" -}}
{{- $number := regexFind "^[0-9]+" . | int64 -}}
{{- if hasSuffix "Ti" . }}{{ mul $number 1099511627776 }}
{{- else if hasSuffix "Gi" . }}{{ mul $number 1073741824 }}
{{- else }}{{ mul $number 1048576 }}{{ end -}}
{{- end -}}

{{- /* The annotations of the pods of controller and gateway, which serve metrics on port 8081. */ -}}
{{- define "skein.podAnnotations" -}}
{{- if and .Values.monitoring.scrapeAnnotations (not .Values.monitoring.serviceMonitor.enabled) }}
prometheus.io/scrape: "true"
prometheus.io/port: "8081"
prometheus.io/path: /metrics
{{- end }}
{{- with .Values.podAnnotations }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* Where a pod runs and with what rights. Takes (list root component values). */ -}}
{{- define "skein.placement" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}{{- $values := index . 2 -}}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if $values.affinity }}
affinity:
  {{- toYaml $values.affinity | nindent 2 }}
{{- else if ne $component "nats" }}
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "skein.selector" (list $root $component) | nindent 14 }}
{{- end }}
{{- with $values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml $root.Values.podSecurityContext | nindent 2 }}
{{- end -}}

{{- define "skein.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- /* What controller and gateway have in common: image, environment, probes, resources. Takes (list root values). */ -}}
{{- define "skein.container" -}}
{{- $root := index . 0 -}}{{- $values := index . 1 -}}
image: {{ include "skein.image" (list $root $root.Values.image) }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
startupProbe:
  httpGet: {path: /livez, port: admin}
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /livez, port: admin}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /readyz, port: admin}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 3
resources:
  {{- toYaml $values.resources | nindent 2 }}
securityContext:
  {{- include "skein.containerSecurityContext" $root | nindent 2 }}
{{- end -}}

{{- /* The environment that both have. Takes (list root values). */ -}}
{{- define "skein.env" -}}
{{- $root := index . 0 -}}
- name: SKEIN_NATS_URL
  value: {{ include "skein.natsUrl" $root | quote }}
- name: SKEIN_IDENTITY
  valueFrom:
    fieldRef: {fieldPath: metadata.name}
- name: SKEIN_LOG_FORMAT
  value: {{ $root.Values.logs.format }}
- name: SKEIN_LOG
  value: {{ $root.Values.logs.level | quote }}
{{- with (index . 1).extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* The broker takes limits as plain numbers of bytes. */ -}}
{{- define "skein.natsConfiguration" -}}
server_name: {{ include "skein.fullname" . }}-nats
port: 4222
http_port: 8222
max_payload: {{ .Values.nats.maxPayloadBytes | int64 }}
jetstream {
  store_dir: /data
  max_file_store: {{ div (mul (include "skein.bytes" .Values.nats.storage.size | int64) 9) 10 }}
  max_memory_store: {{ include "skein.bytes" .Values.nats.memoryStore }}
}
{{- end -}}
