"""What the DAGs share: the launcher, defaults, assets, notifications. Imports Airflow's SDK and contracts only."""
