import places

pytest_generate_tests, file, place, path = places.pytest_generate_tests, places.file, places.place, places.path
if places.VERSIONS:
    postgres_servers = places.postgres_servers
