"""Who may do what: principals, roles, API keys, claims, namespaces, rate limits and quotas.

Pure rules; tokens are verified by `waitd.auth` and requests are checked by `waitd.api`.
"""
