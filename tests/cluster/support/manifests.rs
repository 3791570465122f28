//! Small manifests that contain only what a test needs.

/// Returns a pod that sleeps, with this image in a container `app`.
pub(crate) fn pod(name: &str, image: &str) -> String {
    pod_with(name, &format!("{{ containers: [ {} ] }}", container("app", image)))
}

/// Returns a pod with this spec, which is in YAML's flow style.
pub(crate) fn pod_with(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{ name: {name}, labels: {{ app: {name} }} }}\nspec: {spec}\n"
    )
}

/// Returns a container that does nothing until it is stopped.
pub(crate) fn container(name: &str, image: &str) -> String {
    format!(
        "{{ name: {name}, image: \"{image}\", command: [ /bin/sh, -c, \"trap exit TERM; while :; do sleep 1; done\" ] }}"
    )
}

/// Returns a pod template with the label `app: NAME` and this image.
pub(crate) fn template(name: &str, image: &str) -> String {
    format!(
        "{{ metadata: {{ labels: {{ app: {name} }} }}, spec: {{ terminationGracePeriodSeconds: 1, containers: [ {} ] }} }}",
        container("app", image)
    )
}

/// Returns a Deployment with this number of replicas.
pub(crate) fn deployment(name: &str, image: &str, replicas: u32) -> String {
    workload("Deployment", name, image, &format!("replicas: {replicas},"))
}

/// Returns a StatefulSet with this number of replicas.
pub(crate) fn stateful_set(name: &str, image: &str, replicas: u32) -> String {
    workload("StatefulSet", name, image, &format!("replicas: {replicas}, serviceName: {name},"))
}

/// Returns a DaemonSet.
pub(crate) fn daemon_set(name: &str, image: &str) -> String {
    workload("DaemonSet", name, image, "")
}

/// Returns a workload of the group `apps` with these further fields of its spec.
pub(crate) fn workload(kind: &str, name: &str, image: &str, fields: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: {kind}\nmetadata: {{ name: {name} }}\nspec: {{ {fields} selector: {{ matchLabels: {{ app: {name} }} }}, template: {} }}\n",
        template(name, image)
    )
}

fn once(name: &str, image: &str) -> String {
    format!(
        "{{ metadata: {{ labels: {{ app: {name} }} }}, spec: {{ restartPolicy: Never, containers: [ {{ name: app, image: \"{image}\", command: [ /bin/true ] }} ] }} }}"
    )
}

/// Returns a Job that ends at once.
pub(crate) fn job(name: &str, image: &str) -> String {
    format!(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {{ name: {name} }}\nspec: {{ template: {} }}\n",
        once(name, image)
    )
}

/// Returns a CronJob that runs every minute.
pub(crate) fn cron_job(name: &str, image: &str) -> String {
    format!(
        "apiVersion: batch/v1\nkind: CronJob\nmetadata: {{ name: {name} }}\nspec: {{ schedule: \"* * * * *\", jobTemplate: {{ spec: {{ template: {} }} }} }}\n",
        once(name, image)
    )
}
