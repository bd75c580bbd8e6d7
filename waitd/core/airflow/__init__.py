"""What waitd knows about Airflow: callbacks, registrations, and task history.

Pure functions and values; requests to Airflow are made by `waitd.sinks.airflow`.
"""
