{{- /* SPDX-License-Identifier: Apache-2.0 */ -}}
{{- /* Whom NetworkPolicies let through. */ -}}

{{- /* Pods of components of this release. Of: a dict with root and components. */ -}}
{{- define "headwater.peers" -}}
{{- $root := .root }}
{{- range $component := .components }}
- podSelector:
    matchLabels:
      {{- include "headwater.selector" (dict "root" $root "component" $component) | nindent 6 }}
{{- end }}
{{- end }}

{{- /* Who reads metrics, and helm test. */ -}}
{{- define "headwater.monitoringPeers" -}}
{{- include "headwater.peers" (dict "root" . "components" (list "test")) }}
{{ .Values.networkPolicy.monitoring | default (list (dict "namespaceSelector" dict)) | toYaml }}
{{- end }}

{{- /* Names, and the API server, which is no pod. */ -}}
{{- define "headwater.commonEgress" -}}
- ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
- ports:
    {{- range .Values.networkPolicy.egress.apiServerPorts }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
{{- end }}

{{- /* NATS: the bundled servers, or the ports in the URLs of those that are there. */ -}}
{{- define "headwater.natsEgress" -}}
{{- if eq .Values.nats.source "bundled" }}
- to:
    {{- include "headwater.peers" (dict "root" . "components" (list "nats")) | nindent 4 }}
  ports: [{port: 4222, protocol: TCP}]
{{- else }}
- ports:
    {{- range .Values.nats.existing.urls }}
    - {port: {{ regexFind ":[0-9]+$" . | trimPrefix ":" | default "4222" }}, protocol: TCP}
    {{- end }}
{{- end }}
{{- end }}
