{{- /* SPDX-License-Identifier: Apache-2.0 */ -}}
{{- /* Which Secrets hold certificates, and whether those that the chart made are still good. */ -}}

{{- define "headwater.operatorTls" -}}
{{- if eq .Values.certificates.source "existing" -}}
{{ required "certificates.secrets.operator: name the Secret with the operator's certificate" .Values.certificates.secrets.operator }}
{{- else -}}
headwater-operator-tls
{{- end }}
{{- end }}

{{- define "headwater.natsTls" -}}
{{- if eq .Values.certificates.source "existing" -}}
{{ required "certificates.secrets.nats: name the Secret with the certificate of the bundled NATS" .Values.certificates.secrets.nats }}
{{- else -}}
headwater-nats-tls
{{- end }}
{{- end }}

{{- /* A volume with the certificate of NATS's authority and nothing else of the Secret; empty where
the image's authorities are trusted. */ -}}
{{- define "headwater.natsAuthorityVolume" -}}
{{- if eq .Values.nats.source "bundled" }}
- name: nats-authority
  secret:
    secretName: {{ include "headwater.natsTls" . }}
    items: [{key: ca.crt, path: ca.crt}]
{{- else if .Values.nats.existing.caSecret.name }}
- name: nats-authority
  secret:
    secretName: {{ .Values.nats.existing.caSecret.name }}
    items: [{key: {{ .Values.nats.existing.caSecret.key }}, path: ca.crt}]
{{- end }}
{{- end }}

{{- /* Names of the bundled NATS: the Service, and each server for the others. */ -}}
{{- define "headwater.natsNames" -}}
{{- $namespace := .Release.Namespace -}}
{{- $names := list "headwater-nats" -}}
{{- range $service := list "headwater-nats" "*.headwater-nats-headless" -}}
{{- $names = concat $names (list
  (printf "%s.%s" $service $namespace)
  (printf "%s.%s.svc" $service $namespace)
  (printf "%s.%s.svc.cluster.local" $service $namespace)) -}}
{{- end -}}
{{- concat $names (list "localhost") .Values.certificates.extraNatsNames | toJson -}}
{{- end }}

{{- define "headwater.operatorNames" -}}
{{- $namespace := .Release.Namespace -}}
{{- list "headwater-operator"
  (printf "headwater-operator.%s" $namespace)
  (printf "headwater-operator.%s.svc" $namespace)
  (printf "headwater-operator.%s.svc.cluster.local" $namespace) | toJson -}}
{{- end }}

{{- /* What the certificates are for; others are due when it changes. */ -}}
{{- define "headwater.certifiedNames" -}}
{{- $nats := "" -}}
{{- if eq .Values.nats.source "bundled" }}{{ $nats = include "headwater.natsNames" . }}{{ end -}}
{{- printf "%s%s" (include "headwater.operatorNames" .) $nats | sha256sum | trunc 16 -}}
{{- end }}

{{- /* The revision that made the certificates which are there and still good; empty if none are. */ -}}
{{- define "headwater.keptRevision" -}}
{{- $operator := lookup "v1" "Secret" .Release.Namespace "headwater-operator-tls" -}}
{{- $nats := $operator -}}
{{- if eq .Values.nats.source "bundled" -}}
{{- $nats = lookup "v1" "Secret" .Release.Namespace "headwater-nats-tls" -}}
{{- end -}}
{{- if and $operator $nats -}}
{{- $notes := $operator.metadata.annotations | default dict -}}
{{- $names := index $notes "headwater.dev/certified-names" | default "" -}}
{{- $due := index $notes "headwater.dev/renew-after" | default "0" | int64 -}}
{{- if and (eq $names (include "headwater.certifiedNames" .)) (gt $due (now | unixEpoch | int64)) -}}
{{- index $notes "headwater.dev/made-by-revision" -}}
{{- end -}}
{{- end -}}
{{- end }}
