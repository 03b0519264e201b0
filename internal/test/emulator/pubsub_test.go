package emulator

import (
	"net/http"
	"testing"
)

func TestThePubSubEmulatorAnswers(t *testing.T) {
	t.Parallel()
	response, err := http.Get("http://" + PubSub(t) + "/v1/projects/" + Project() + "/topics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("it answers %s when asked for the topics of a project", response.Status)
	}
}

func TestAPubSubEmulatorInTheEnvironmentIsUsed(t *testing.T) {
	t.Setenv(pubSub.variable, "host:1")
	if host := PubSub(t); host != "host:1" {
		t.Errorf("the emulator is %s", host)
	}
}
