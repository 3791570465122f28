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
{{- else if or .Values.registriesFile.content .Values.registriesFile.configMap .Values.registriesFile.secret -}}
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

{{- /* The seconds of a duration like 1h30m. */ -}}
{{- define "tagpin.seconds" -}}
{{- $sum := 0 -}}
{{- range regexFindAll "[0-9]+[hms]" . -1 -}}
{{- $unit := ternary 3600 (ternary 60 1 (hasSuffix "m" .)) (hasSuffix "h" .) -}}
{{- $sum = add $sum (mul $unit (regexFind "[1-9][0-9]*" . | int64)) -}}
{{- end -}}
{{- $sum -}}
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
{{- if eq (int .Values.webhook.port) (int .Values.admin.port) -}}
{{- fail (printf "webhook.port and admin.port are both %d: set another one" (int .Values.admin.port)) -}}
{{- end -}}
{{- $lifetime := include "tagpin.seconds" .Values.certificate.lifetime | int64 -}}
{{- if lt $lifetime 6 -}}
{{- fail (printf "certificate.lifetime is %s, and a certificate must live for 6s or longer: set 2160h" .Values.certificate.lifetime) -}}
{{- end -}}
{{- if lt (include "tagpin.seconds" .Values.certificate.authorityLifetime | int64) (mul 4 $lifetime) -}}
{{- fail (printf "certificate.authorityLifetime is %s, and the authority must live at least four times as long as the certificate (%s)" .Values.certificate.authorityLifetime .Values.certificate.lifetime) -}}
{{- end -}}
{{- with .Values.registryDefaults -}}
{{- if and (or .noProxy .proxySecret) (not .proxy) -}}
{{- fail "registryDefaults has noProxy or proxySecret, but no proxy: set registryDefaults.proxy, or leave them out" -}}
{{- end -}}
{{- end -}}
{{- $file := .Values.registriesFile -}}
{{- $sources := compact (list (ternary "content" "" (not (empty $file.content))) (ternary "configMap" "" (not (empty $file.configMap))) (ternary "secret" "" (not (empty $file.secret)))) -}}
{{- if gt (len $sources) 1 -}}
{{- fail (printf "registriesFile has both %s: give one" (join " and " $sources)) -}}
{{- end -}}
{{- $folder := eq $file.format "certs.d" -}}
{{- if and $folder $sources -}}
{{- fail (printf "registriesFile.format is certs.d, which has hosts and no %s" (first $sources)) -}}
{{- end -}}
{{- range $host, $config := (fromYaml $file.content).configs -}}
{{- if and (kindIs "map" $config) $config.auth -}}
{{- fail (printf "registriesFile.content has configs.%s.auth and goes into a ConfigMap, which is no place for passwords: put the file into a Secret and name it in registriesFile.secret" $host) -}}
{{- end -}}
{{- end -}}
{{- range $name, $hosts := $file.hosts -}}
{{- if regexMatch `(?im)^[^#\n]*authorization["']?\s*=` $hosts -}}
{{- fail (printf "registriesFile.hosts has a header authorization for %s and goes into a ConfigMap, which is no place for passwords: name a Secret in credentials.secretRef of the registry's entry in registries" $name) -}}
{{- end -}}
{{- end -}}
{{- if and $file.hosts (not $folder) -}}
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
