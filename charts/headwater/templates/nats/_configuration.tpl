{{- /* SPDX-License-Identifier: Apache-2.0 */ -}}
{{- /* Text of nats.conf. */ -}}
{{- define "headwater.natsConfiguration" -}}
{{- $nats := .Values.nats.bundled -}}
server_name: $POD_NAME
listen: "{{ .Values.listenAddress }}:4222"
# For kubelet's look from inside of the container. It tells of every account without asking who is
# there, so nobody else on the network may have it.
http: "127.0.0.1:8222"
pid_file: "/var/run/nats/nats.pid"
max_payload: {{ $nats.maxPayload }}
# Clients move to other servers one after the other when this one stops.
lame_duck_grace_period: "5s"
lame_duck_duration: "30s"
tls: {
  cert_file: "/etc/nats/tls/tls.crt"
  key_file: "/etc/nats/tls/tls.key"
  min_version: "1.2"
}
jetstream: {
  store_dir: "/data/jetstream"
  max_file_store: {{ $nats.storage.maxFileStore }}
  max_memory_store: 16Mi
  sync_interval: {{ $nats.storage.syncInterval | quote }}
}
{{- if gt (int $nats.replicas) 1 }}
cluster: {
  name: "headwater"
  listen: "{{ .Values.listenAddress }}:6222"
  # Clients know the Service's name, and certificates name no address.
  no_advertise: true
  routes: [
    {{- range $number := until (int $nats.replicas) }}
    "tls://headwater-nats-{{ $number }}.headwater-nats-headless.{{ $.Release.Namespace }}.svc:6222"
    {{- end }}
  ]
  # Each shows the others its certificate: who has none is no server.
  tls: {
    cert_file: "/etc/nats/tls/tls.crt"
    key_file: "/etc/nats/tls/tls.key"
    ca_file: "/etc/nats/tls/ca.crt"
    min_version: "1.2"
    verify: true
  }
}
{{- end }}
include "operator/nats-operator.conf"
{{- with $nats.extraConfiguration }}
{{ . }}
{{- end }}
{{- end }}

{{- /* How a probe tries a server. */ -}}
{{- define "headwater.natsHealth" -}}
{{- with .Values.nats.bundled.healthCommand -}}
exec:
  command:
    {{- toYaml . | nindent 4 }}
{{- else -}}
tcpSocket: {port: client}
{{- end }}
{{- end }}
