{{/* What the operator may do where it looks after networks. Each rule is used by one step of a visit; none is there in advance. */}}
{{- define "aitbc.rules" -}}
# The networks, their finalizer and their status.
- apiGroups: [blockchain.aitbc.io]
  resources: [blockchainnetworks]
  verbs: [get, list, watch, patch]
- apiGroups: [blockchain.aitbc.io]
  resources: [blockchainnetworks/status]
  verbs: [get, patch]
# Owner references that block deletion need it where that admission plugin is on.
- apiGroups: [blockchain.aitbc.io]
  resources: [blockchainnetworks/finalizers]
  verbs: [update]
# What a network consists of.
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services, serviceaccounts]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [monitoring.coreos.com]
  resources: [servicemonitors]
  verbs: [get, list, watch, create, patch, delete]
# Keys are created, read, and annotated with the chains they were on; only the mounted copies are patched otherwise.
# Kubernetes cannot narrow this to labels or names.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, patch, delete]
# Genesis is created once.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch, create, delete]
# One pod at a time is deleted so that its successor has the new template.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, delete]
# Volumes grow, and go where the deletion policy says so.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, patch, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}
