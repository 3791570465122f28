{{- /* Labels that select the pods. They never change, because the selector of a Deployment is immutable. */ -}}
{{- define "tagpin.selector" -}}
app.kubernetes.io/name: tagpin
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "tagpin.labels" -}}
{{ include "tagpin.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "tagpin.image" -}}
{{- $repository := required "image.repository is empty: set it to where the tagpin image was pushed, for example --set image.repository=registry.example.com/tools/tagpin" .Values.image.repository -}}
{{- if .Values.image.digest -}}
{{ $repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}@{{ .Values.image.digest }}
{{- else -}}
{{ $repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- /* The mode of pull secrets. YAML reads an unquoted `off` as the boolean false. */ -}}
{{- define "tagpin.pullSecretsMode" -}}
{{- if .Values.pullSecrets.mode }}{{ .Values.pullSecrets.mode }}{{ else }}off{{ end -}}
{{- end -}}

{{- /* The path of the nodes' file or folder in the pod, or nothing if neither is given. */ -}}
{{- define "tagpin.registriesFile" -}}
{{- if .Values.registriesFile.hosts -}}
/etc/tagpin/certs.d
{{- else if or .Values.registriesFile.content .Values.registriesFile.configMap -}}
/etc/tagpin/k3s/registries.yaml
{{- end -}}
{{- end -}}

{{- /* The affinity of the pods. In the network of their nodes two pods would want the same ports. */ -}}
{{- define "tagpin.affinity" -}}
{{- $affinity := deepCopy .Values.affinity -}}
{{- if .Values.hostNetwork -}}
{{- $others := $affinity.podAntiAffinity | default dict -}}
{{- $apart := dict "labelSelector" (dict "matchLabels" (include "tagpin.selector" . | fromYaml)) "topologyKey" "kubernetes.io/hostname" -}}
{{- $required := append ($others.requiredDuringSchedulingIgnoredDuringExecution | default list) $apart -}}
{{- $_ := set $affinity "podAntiAffinity" (set $others "requiredDuringSchedulingIgnoredDuringExecution" $required) -}}
{{- end -}}
{{- toYaml $affinity -}}
{{- end -}}

{{- /* Fails for values that would not work, before anything is installed. */ -}}
{{- define "tagpin.check" -}}
{{- if eq .Release.Namespace "default" -}}
{{- fail "tagpin is not released into `default`: its namespace is never intercepted, so the workloads there would not be checked; use --namespace tagpin-system --create-namespace" -}}
{{- end -}}
{{- $mode := include "tagpin.pullSecretsMode" . -}}
{{- if and (eq $mode "namespaces") (not .Values.pullSecrets.namespaces) -}}
{{- fail "pullSecrets.mode is namespaces, but pullSecrets.namespaces names none" -}}
{{- end -}}
{{- if and (ne $mode "namespaces") .Values.pullSecrets.namespaces -}}
{{- fail (printf "pullSecrets.namespaces names some, but pullSecrets.mode is %s" $mode) -}}
{{- end -}}
{{- if and .Values.hostNetwork (eq (int .Values.webhook.port) 10250) -}}
{{- fail "hostNetwork is true, but webhook.port is 10250, which the kubelet has on every node: set another one, such as 10270" -}}
{{- end -}}
{{- if and .Values.registriesFile.content .Values.registriesFile.configMap -}}
{{- fail "registriesFile has both content and configMap: give one" -}}
{{- end -}}
{{- $folder := eq .Values.registriesFile.format "certs.d" -}}
{{- if and $folder (or .Values.registriesFile.content .Values.registriesFile.configMap) -}}
{{- fail "registriesFile.format is certs.d, which has hosts and neither content nor configMap" -}}
{{- end -}}
{{- if and .Values.registriesFile.hosts (not $folder) -}}
{{- fail "registriesFile.hosts is for the format certs.d" -}}
{{- end -}}
{{- end -}}

{{- /* The Secrets that `registries` names, each once, as JSON. */ -}}
{{- define "tagpin.secretRefs" -}}
{{- $found := list -}}
{{- range .Values.registries -}}
{{- with (.credentials | default dict).secretRef -}}
{{- $found = append $found (dict "namespace" .namespace "name" .name) -}}
{{- end -}}
{{- end -}}
{{- $found | uniq | toJson -}}
{{- end -}}
