{{- define "hashlight.name" -}}
{{- printf "%s-hashlight" .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "hashlight.selector" -}}
app.kubernetes.io/name: hashlight
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "hashlight.labels" -}}
{{ include "hashlight.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "hashlight.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "hashlight.environment" -}}
- name: HASHLIGHT_FEDERATION_LISTEN
  value: "0.0.0.0:8440"
- name: HASHLIGHT_LOCAL_LISTEN
  value: "0.0.0.0:8441"
- name: HASHLIGHT_LOCAL_ALLOW_REMOTE
  value: "true"
{{- if .Values.store.serviceSecret }}
- name: HASHLIGHT_STORE_URL
  value: "postgresql:///hashlight?service=hashlight"
- name: PGSERVICEFILE
  value: /run/secrets/hashlight/store/service.conf
{{- end }}
{{- if .Values.keys.passphraseSecret }}
- name: HASHLIGHT_KEYS_PASSPHRASE_FILE
  value: /run/hashlight/passphrase
{{- end }}
{{- if .Values.authoritySecret }}
- name: SSL_CERT_FILE
  value: /run/secrets/hashlight/authority/authority.pem
{{- end }}
{{- range $name, $value := .Values.settings }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}

{{- define "hashlight.mounts" -}}
- {name: data, mountPath: /data}
- {name: tmp, mountPath: /tmp}
{{- if .Values.store.serviceSecret }}
- {name: store, mountPath: /run/secrets/hashlight/store, readOnly: true}
{{- end }}
{{- if .Values.keys.passphraseSecret }}
- {name: passphrase, mountPath: /run/hashlight}
{{- end }}
{{- if .Values.authoritySecret }}
- {name: authority, mountPath: /run/secrets/hashlight/authority, readOnly: true}
{{- end }}
{{- end -}}

{{- define "hashlight.locked" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  capabilities: {drop: [ALL]}
  seccompProfile: {type: RuntimeDefault}
{{- end -}}
