"""Where a `conn_id` is looked up, and how its credentials are obtained.

Each backend (environment, file, directory, Vault, AWS Secrets Manager) is a `Resolver`; `cache`
stands in front of them all. `authorizer` turns a connection into request credentials and fetches
tokens where the connection needs them. What a connection means, and which requests may carry its
credentials, is decided in `waitd.core.connections`. Nothing here writes a secret to disk.
"""
