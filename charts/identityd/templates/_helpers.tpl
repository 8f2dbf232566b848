{{- /* The prefix of every name. 52 characters leave room for what follows it: a CronJob's name may have no more. */ -}}
{{- define "identityd.name" -}}
{{- $name := contains .Chart.Name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) -}}
{{- $name | trunc 42 | trimSuffix "-" -}}
{{- end -}}

{{- define "identityd.selector" -}}
app.kubernetes.io/name: identityd
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "identityd.labels" -}}
{{ include "identityd.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "identityd.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* identityd.toml: a line for each key, with its whole path. JSON's scalars and arrays are TOML's too. */ -}}
{{- define "identityd.toml" -}}
{{- range $key, $value := .values -}}
{{- $path := printf "%s%s" $.prefix $key -}}
{{- if kindIs "map" $value -}}
{{- include "identityd.toml" (dict "prefix" (printf "%s." $path) "values" $value) -}}
{{- else -}}
{{ $path }} = {{ toRawJson $value }}
{{ end -}}
{{- end -}}
{{- end -}}

{{- /* What the pod of every mode begins with. */ -}}
{{- define "identityd.pod" -}}
# The variables of a Service named identityd… would be read as configuration, and refused.
enableServiceLinks: false
automountServiceAccountToken: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile:
    type: RuntimeDefault
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "identityd.restricted" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end -}}

{{- /* The container of a mode that has the whole configuration. */ -}}
{{- define "identityd.container" -}}
image: {{ include "identityd.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
env:
  # And not --config: `kubectl exec … -- identityd bootstrap` finds it too.
  - name: IDENTITYD_CONFIG
    value: /etc/identityd/identityd.toml
volumeMounts:
  - name: config
    mountPath: /etc/identityd
    readOnly: true
  - name: secrets
    mountPath: /run/identityd/secrets
    readOnly: true
  {{- if not (dig "vault" "address" "" .Values.config) }}
  - name: keys
    mountPath: /run/identityd/keys
    readOnly: true
  {{- end }}
{{ include "identityd.restricted" . }}
{{- end -}}

{{- /* Not empty where the brokers ask for a password. */ -}}
{{- define "identityd.kafkaLogin" -}}
{{- if and (dig "kafka" "brokers" "" .Values.config) (eq (dig "kafka" "security" "sasl_ssl" .Values.config) "sasl_ssl") -}}
yes
{{- end -}}
{{- end -}}

{{- /* One more source of the volume `secrets`: a ConfigMap with certificate authorities, where one is named. */ -}}
{{- define "identityd.ca" -}}
{{- if .ca.name }}
- configMap:
    name: {{ .ca.name }}
    items:
      - {key: {{ .ca.key }}, path: {{ .path }}}
{{- end }}
{{- end -}}

{{- /* For a mode that stays up. */ -}}
{{- define "identityd.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: ops}
  periodSeconds: 2
  failureThreshold: 30
livenessProbe:
  httpGet: {path: /healthz, port: ops}
  timeoutSeconds: 3
readinessProbe:
  httpGet: {path: /readyz, port: ops}
  periodSeconds: 2
  timeoutSeconds: 3
  failureThreshold: 1
{{- end -}}

{{- define "identityd.volumes" -}}
{{- $vault := dig "vault" "address" "" .Values.config -}}
{{- if not $vault }}
initContainers:
  - name: keys
    image: {{ .Values.keyRing.image | quote }}
    command: [sh, -c, umask 077 && cat /secrets/keys.json >/keys/keys.json]
    resources:
      requests: {cpu: 10m, memory: 16Mi}
      limits: {cpu: 100m, memory: 32Mi}
    volumeMounts:
      - name: keys-secret
        mountPath: /secrets
        readOnly: true
      - name: keys
        mountPath: /keys
    {{- include "identityd.restricted" . | nindent 4 }}
{{- end }}
volumes:
  - name: config
    configMap:
      name: {{ include "identityd.name" . }}
  - name: secrets
    projected:
      defaultMode: 0440
      sources:
        - secret:
            name: {{ .Values.secrets.database.name }}
            items:
              - {key: {{ .Values.secrets.database.key }}, path: database-url}
        - secret:
            name: {{ .Values.secrets.mail.name }}
            items:
              - {key: {{ .Values.secrets.mail.key }}, path: mail-url}
        {{- include "identityd.ca" (dict "ca" .Values.databaseCa "path" "database-ca.pem") | indent 8 }}
        {{- if $vault }}
        - secret:
            name: {{ .Values.secrets.vault.name }}
            items:
              - {key: {{ .Values.secrets.vault.key }}, path: vault-secret-id}
        {{- include "identityd.ca" (dict "ca" .Values.vaultCa "path" "vault-ca.pem") | indent 8 }}
        {{- end }}
        {{- if .Values.redis.enabled }}
        - secret:
            name: {{ .Values.secrets.redis.name }}
            items:
              - {key: {{ .Values.secrets.redis.key }}, path: redis-url}
        {{- include "identityd.ca" (dict "ca" .Values.redisCa "path" "redis-ca.pem") | indent 8 }}
        {{- end }}
        {{- if include "identityd.kafkaLogin" . }}
        - secret:
            name: {{ .Values.secrets.kafka.name }}
            items:
              - {key: {{ .Values.secrets.kafka.key }}, path: kafka-password}
        {{- end }}
        {{- if dig "kafka" "brokers" "" .Values.config }}
        {{- include "identityd.ca" (dict "ca" .Values.kafkaCa "path" "kafka-ca.pem") | indent 8 }}
        {{- end }}
  {{- if not $vault }}
  - name: keys-secret
    secret:
      secretName: {{ .Values.secrets.keys.name }}
      defaultMode: 0440
      items:
        - {key: {{ .Values.secrets.keys.key }}, path: keys.json}
  - name: keys
    emptyDir:
      medium: Memory
      sizeLimit: 1Mi
  {{- end }}
{{- end -}}
