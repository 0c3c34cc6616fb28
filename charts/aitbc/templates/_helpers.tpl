{{/* Names, labels and images: said once. */}}
{{- define "aitbc.name" -}}
{{- default "aitbc-operator" .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "aitbc.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains .Release.Name (include "aitbc.name" .) }}
{{- include "aitbc.name" . }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "aitbc.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "aitbc.selectorLabels" -}}
app.kubernetes.io/name: aitbc-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "aitbc.labels" -}}
{{ include "aitbc.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: aitbc
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "aitbc.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "aitbc.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* Image of {image, default tag}: a digest wins over a tag. */}}
{{- define "aitbc.image" -}}
{{- $image := index . 0 }}{{- $tag := index . 1 -}}
{{- if $image.digest }}{{ $image.repository }}@{{ $image.digest }}{{ else }}{{ $image.repository }}:{{ default $tag $image.tag }}{{ end }}
{{- end }}
