"""Methods that steer and detect by one fit."""
