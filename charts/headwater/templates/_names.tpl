{{- /* SPDX-License-Identifier: Apache-2.0 */ -}}
{{- /* What several templates have to write the same way: labels, images, addresses. */ -}}

{{- /* Labels of an object. Of: a dict with root and component. */ -}}
{{- define "headwater.labels" -}}
{{ include "headwater.selector" . }}
app.kubernetes.io/part-of: headwater
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* Those that never change, by which pods are found. */ -}}
{{- define "headwater.selector" -}}
app.kubernetes.io/name: headwater
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- /* Labels of a pod: no version, or an upgrade that leaves its image alone would restart it. Of: a dict
with root, component and the component's podLabels as extra. */ -}}
{{- define "headwater.podLabels" -}}
{{ include "headwater.selector" . }}
app.kubernetes.io/part-of: headwater
{{- with merge (dict) .extra .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* An image's reference. A repository whose first part is a host stays as it is, as everywhere. Of:
a dict with root and image. */ -}}
{{- define "headwater.image" -}}
{{- if not (regexMatch "^([^/]*[.:][^/]*|localhost)/" .image.repository) -}}
{{- with .root.Values.images.registry }}{{ trimSuffix "/" . }}/{{ end }}
{{- end }}
{{- .image.repository }}
{{- if .image.digest }}@{{ .image.digest }}
{{- else }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end }}
{{- end }}

{{- define "headwater.pullSecrets" -}}
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* Where NATS is. The whole name, because auditors in other namespaces are told the same. */ -}}
{{- define "headwater.natsUrls" -}}
{{- if eq .Values.nats.source "bundled" -}}
tls://headwater-nats.{{ .Release.Namespace }}.svc:4222
{{- else -}}
{{ join "," .Values.nats.existing.urls }}
{{- end }}
{{- end }}

{{- define "headwater.exchangeUrl" -}}
https://headwater-operator.{{ .Release.Namespace }}.svc:8443
{{- end }}

{{- /* Copies of each stream. */ -}}
{{- define "headwater.streamReplicas" -}}
{{- if eq .Values.nats.source "bundled" }}{{ .Values.nats.bundled.replicas }}
{{- else }}{{ .Values.nats.existing.streamReplicas }}
{{- end }}
{{- end }}

{{- /* What restricted asks of a container. */ -}}
{{- define "headwater.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- /* Spread of a component's pods, as given or over nodes where that can be. */ -}}
{{- define "headwater.spread" -}}
topologySpreadConstraints:
{{- if .given }}
  {{- toYaml .given | nindent 2 }}
{{- else }}
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "headwater.selector" . | nindent 8 }}
{{- end }}
{{- end }}

{{- /* Where a pod may be. Of: the component's values. */ -}}
{{- define "headwater.placement" -}}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
