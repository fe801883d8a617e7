# The sample services of compose.yaml: docker build -f deploy/docker/sample.Dockerfile -t holdfast-sample .
FROM python:3.11-slim
COPY tests/support/requirements.txt /tmp/
RUN pip install --no-cache-dir --requirement /tmp/requirements.txt
COPY deploy/sample /sample
USER 10002:10002
WORKDIR /sample
ENTRYPOINT ["python3"]
