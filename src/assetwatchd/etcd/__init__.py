"""How etcd is spoken to, when it is the store of several replicas: one client, its values, its errors.

Imported by nothing while the store is another one. Knows keys and revisions, and nothing of what they mean.
"""
