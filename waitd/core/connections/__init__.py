"""What a connection means: its address, credentials, grants, and the egress rules.

Field names are Airflow's. Where a connection is looked up is the business of `waitd.connections`.
"""
